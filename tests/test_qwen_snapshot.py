"""Where the enhancer's weights are looked for, and what is wrong with weights that are not whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qwen_support import RULES, VARIANTS, written

from workers.engines.qwen.engine import QwenEnhancer
from workers.engines.qwen.snapshot import Variant, find_snapshot, pick_snapshot
from workers.errors import Misconfigured
from workers.watch import Watch

pytestmark = pytest.mark.pipelines


@pytest.fixture(scope="session")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory)


def test_small_weights_stay_small_and_are_the_same_every_time(volume: Path, tmp_path: Path) -> None:
    from workers.tiny import qwen

    qwen.write(tmp_path)
    for variant in VARIANTS:
        one, other = find_snapshot(volume, variant), find_snapshot(tmp_path, variant)
        files = sorted(path.name for path in one.iterdir())
        assert sum((one / name).stat().st_size for name in files) < 1_000_000
        assert [(one / name).read_bytes() for name in files] == [(other / name).read_bytes() for name in files]


def snapshot(hf_home: Path, revision: str, variant: Variant = "base", *, age: float = 0.0, main: bool = False) -> Path:
    suffix = "" if variant == "base" else "-Instruct"
    folder = hf_home / "hub" / f"models--Qwen--Qwen2.5-7B{suffix}"
    config = folder / "snapshots" / revision / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text("{}")
    os.utime(config, (1e9 - age, 1e9 - age))
    if main:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(f"{revision}\n")
    return config.parent


def test_the_snapshot_that_main_names_is_used(tmp_path: Path) -> None:
    named = snapshot(tmp_path, "one", age=100, main=True)
    snapshot(tmp_path, "two")
    assert find_snapshot(tmp_path, "base") == named


def test_without_main_the_newest_whole_snapshot_is_used(tmp_path: Path) -> None:
    snapshot(tmp_path, "one", age=100)
    newest = snapshot(tmp_path, "two", age=50)
    (newest.parent / "half").mkdir()
    assert find_snapshot(tmp_path, "base") == newest


def test_a_main_that_names_half_a_snapshot_is_passed_over(tmp_path: Path) -> None:
    whole = snapshot(tmp_path, "one")
    (snapshot(tmp_path, "two", "base", main=True) / "config.json").unlink()
    assert find_snapshot(tmp_path, "base") == whole


def test_no_snapshot_is_said_with_its_fix(tmp_path: Path) -> None:
    snapshot(tmp_path, "one", "base")
    with pytest.raises(Misconfigured, match=r"Qwen2\.5-7B-Instruct holds no .* hf download Qwen/Qwen2\.5-7B-Instruct"):
        find_snapshot(tmp_path, "instruct")


def test_auto_prefers_instruct_and_takes_base_where_it_is_alone(tmp_path: Path) -> None:
    base = snapshot(tmp_path, "one", "base")
    assert pick_snapshot(tmp_path, "auto") == ("base", base)
    instruct = snapshot(tmp_path, "two", "instruct")
    assert pick_snapshot(tmp_path, "auto") == ("instruct", instruct)
    assert pick_snapshot(tmp_path, "base") == ("base", base)


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def drop_a_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"model.norm.weight": "model-2.safetensors"}}')


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "not a whole safetensors file": truncate,
    "lacks 1 tensors": drop_a_tensor,
    r"model-2\.safetensors is not there": lose_a_shard,
    r"tokenizer\.json is not there": lambda folder: (folder / "tokenizer.json").unlink(),
    "cannot be loaded": lambda folder: (folder / "config.json").write_text("{"),
}


@pytest.mark.parametrize(("said", "damage"), DAMAGES.items(), ids=DAMAGES.keys())
def test_a_damaged_snapshot_is_not_loaded(
    volume: Path, tmp_path: Path, said: str, damage: Callable[[Path], Any]
) -> None:
    folder = shutil.copytree(find_snapshot(volume, "base"), tmp_path / "snapshot")
    damage(folder)
    with pytest.raises(Misconfigured, match=said):
        QwenEnhancer(folder, device="cpu", variant="base", rules=RULES).load(Watch())


def test_importing_the_enhancer_imports_no_heavy_library() -> None:
    heavy = ("torch", "transformers", "diffusers", "numpy", "PIL", "av", "tokenizers")
    code = (
        "import sys, workers.prompting.prompt, workers.engines.qwen.engine, workers.tiny.qwen\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    root = Path(__file__).resolve().parent.parent
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert said.stdout.strip() == "[]"
