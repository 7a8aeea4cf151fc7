"""The training command from nothing to weights that the real engines load: a few steps of each stage."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from toys import __main__ as command
from toys import loop, sdxl, text
from toys.measure import Case, picture, sdxl_engine


@pytest.fixture
def small_stages(monkeypatch):
    """Three steps a stage, and little to learn from."""
    plans = {name: replace(plan, steps=3, batch=2) for name, plan in loop.load_plans("cpu").items()}
    monkeypatch.setattr(loop, "load_plans", lambda device: plans)
    monkeypatch.setattr(sdxl, "ALBUM", 64)
    monkeypatch.setattr(text, "CORPUS", 200)


def trained(folder, work):
    command.train(out=folder, work=work, device="cpu", minutes=None, only=["sdxl"], seed=0)
    return next(folder.rglob("*.safetensors")).read_bytes()


def test_one_command_makes_weights_that_the_engine_loads(small_stages, tmp_path):
    trained(tmp_path / "weights", tmp_path / "work")
    made = picture(sdxl_engine(tmp_path / "weights"), Case("a red circle", None, 0), steps=2)
    assert made.shape == (64, 64, 3)
    sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "weights", check=False)
    assert sums.returncode == 0


def test_what_was_interrupted_ends_with_the_same_weights(small_stages, tmp_path):
    whole = trained(tmp_path / "whole", tmp_path / "work")
    (tmp_path / "work" / "sdxl_denoiser.pt").unlink()
    assert trained(tmp_path / "again", tmp_path / "work") == whole
