"""The training command from nothing to weights that the real engines load: a few steps of each stage."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from toys import __main__ as command
from toys import loop, sdxl_drawn, text, train_qwen, wan, wan_drawn
from toys.measure import Case, clip, picture, sdxl_engine, wan_engine
from toys.measure_words import Asked, answer, enhancer


@pytest.fixture
def small_stages(monkeypatch):
    """Three steps a stage, and little to learn from."""
    plans = {name: replace(plan, steps=3, batch=2) for name, plan in loop.load_plans("cpu").items()}
    monkeypatch.setattr(loop, "load_plans", lambda device: plans)
    monkeypatch.setattr(sdxl_drawn, "ALBUM", 64)
    monkeypatch.setattr(text, "CORPUS", 200)
    monkeypatch.setattr(train_qwen, "EXAMPLES", 100)
    for module, name, number in ((wan_drawn, "CLIPS", 2), (wan_drawn, "STILLS", 8), (wan, "SENTENCES", 100)):
        monkeypatch.setattr(module, name, number)


def trained(folder, work, model="sdxl"):
    command.train(out=folder, work=work, device="cpu", minutes=None, only=[model], seed=0)
    return next(folder.rglob("*.safetensors")).read_bytes()


def test_one_command_makes_weights_that_the_engine_loads(small_stages, tmp_path):
    trained(tmp_path / "weights", tmp_path / "work")
    made = picture(sdxl_engine(tmp_path / "weights"), Case("a red circle", None, 0), steps=2)
    assert made.shape == (64, 64, 3)
    sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "weights", check=False)
    assert sums.returncode == 0


def test_the_video_engine_loads_what_was_made(small_stages, tmp_path):
    trained(tmp_path / "weights", tmp_path / "work", "wan")
    engine = wan_engine(tmp_path / "weights", tmp_path)
    assert clip(engine, Case("a red circle moving up", None, 0), steps=2, frames=9).shape == (9, 80, 48, 3)


@pytest.mark.parametrize("variant", ["base", "instruct"])
def test_the_enhancer_loads_what_was_made(small_stages, tmp_path, variant):
    trained(tmp_path / "weights", tmp_path / "work", "qwen")
    assert answer(enhancer(tmp_path / "weights", variant), Asked("a red circle", "image", 0))


def test_what_was_interrupted_ends_with_the_same_weights(small_stages, tmp_path):
    whole = trained(tmp_path / "whole", tmp_path / "work")
    (tmp_path / "work" / "sdxl_denoiser.pt").unlink()
    assert trained(tmp_path / "again", tmp_path / "work") == whole
