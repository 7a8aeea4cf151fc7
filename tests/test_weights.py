"""Small helpers of all engines: files on the volume, and what errors of the card mean."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch

from workers.card import gpu, weights
from workers.errors import EngineBroken, Interrupted, Misconfigured

pytestmark = pytest.mark.pipelines

HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL", "av")


def raising(error: Exception) -> Callable[[], str]:
    def run() -> str:
        raise error

    return run


def test_importing_what_makes_pictures_imports_no_heavy_library() -> None:
    script = f"""
import importlib, pkgutil, sys
import workers.engines, workers.tiny, workers.card.gpu, workers.card.weights
for package in (workers.engines, workers.tiny):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print([name for name in {HEAVY} if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=True)
    assert shown.stdout.strip() == "[]"


def test_reading_ahead_tells_how_many_bytes_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "BLOCK", 1000)
    monkeypatch.setattr(weights, "BLOCKS_PER_WAVE", 2)
    (tmp_path / "a").write_bytes(bytes(4500))
    (tmp_path / "b").write_bytes(bytes(10))
    moved: list[tuple[int, int]] = []
    weights.read_ahead([tmp_path / "a", tmp_path / "b"], lambda done, total: moved.append((done, total)))
    assert moved == [(2000, 4510), (4000, 4510), (4510, 4510)]


def test_reading_ahead_ends_when_told_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    with pytest.raises(Interrupted):
        weights.read_ahead([tmp_path / "a"], lambda done, total: raising(Interrupted())())


def reading(monkeypatch: pytest.MonkeyPatch, go_on: threading.Event) -> SimpleQueue[int]:
    """Where the blocks begin that are read, one at a time, once each may `go_on`."""
    begun: SimpleQueue[int] = SimpleQueue()

    def read(block: tuple[Path, int]) -> int:
        begun.put(block[1])
        go_on.wait(60)
        return weights.BLOCK

    monkeypatch.setattr(weights, "BLOCK", 1000)
    monkeypatch.setattr(weights, "BLOCKS_PER_WAVE", 1)
    monkeypatch.setattr(weights, "_read", read)
    return begun


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-next"]


def test_what_is_read_next_comes_while_something_else_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(bytes(2500))
    go_on = threading.Event()
    begun = reading(monkeypatch, go_on)
    go_on.set()
    with weights.reading_ahead([tmp_path / "a"]):
        assert [begun.get(timeout=60) for _ in range(3)] == [0, 1000, 2000]


def test_reading_ahead_ends_with_what_it_was_done_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(bytes(2500))
    go_on = threading.Event()
    begun = reading(monkeypatch, go_on)
    with weights.reading_ahead([tmp_path / "a"]):
        assert begun.get(timeout=60) == 0
    go_on.set()
    for thread in readers():
        thread.join(60)
    assert readers() == []
    assert begun.empty()


def test_a_file_that_cannot_be_read_ahead_holds_nothing_up(tmp_path: Path) -> None:
    with weights.reading_ahead([tmp_path / "missing"]):
        for thread in readers():
            thread.join(60)
    assert readers() == []


def test_a_files_hash_is_kept_beside_it_as_sha256sum_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    expected = hashlib.sha256(b"weights").hexdigest()
    assert weights.file_hash(file) == expected
    assert (tmp_path / "model.safetensors.sha256").read_text() == f"{expected}  model.safetensors\n"


def test_a_kept_hash_counts_only_while_the_file_is_older(tmp_path: Path) -> None:
    file, note = tmp_path / "model", tmp_path / "model.sha256"
    file.write_bytes(b"weights")
    note.write_text("0" * 64 + "  model\n")
    assert weights.file_hash(file) == "0" * 64
    os.utime(note, (1, 1))
    assert weights.file_hash(file) == hashlib.sha256(b"weights").hexdigest()


def test_saved_weights_become_readable_for_all(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir(mode=0o700)
    (tmp_path / "unet" / "weights").touch(mode=0o600)
    weights.make_readable(tmp_path)
    assert (tmp_path / "unet").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "unet" / "weights").stat().st_mode & 0o777 == 0o644


def test_quiet_libraries_are_offline_and_say_errors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    weights.quiet_libraries()
    import diffusers
    import transformers

    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert diffusers.logging.get_verbosity() == transformers.logging.get_verbosity() == diffusers.logging.ERROR


def test_work_too_large_for_the_card_is_done_smaller() -> None:
    assert gpu.with_one_retry(raising(torch.OutOfMemoryError()), lambda: "smaller") == "smaller"


def test_work_that_fits_is_done_once() -> None:
    assert gpu.with_one_retry(lambda: "whole", raising(AssertionError())) == "whole"


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), 71),
        (torch.AcceleratorError("an illegal memory access was encountered"), 70),
        (RuntimeError("CUDA error: device-side assert triggered"), 70),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), 70),
    ],
)
def test_what_only_a_new_process_heals_is_an_engine_broken(error: Exception, exit_code: int) -> None:
    with pytest.raises(EngineBroken) as broken:
        gpu.with_one_retry(raising(error), raising(error))
    assert broken.value.exit_code == exit_code


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), Interrupted(), ValueError("width")])
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as passed:
        gpu.with_one_retry(raising(error), raising(AssertionError()))
    assert passed.value is error


def test_without_a_card_the_processor_is_used_in_full_precision() -> None:
    assert gpu.dtype_for("cpu", "float16") == torch.float32
    assert gpu.dtype_for("cuda", "bfloat16") == torch.bfloat16
    assert gpu.memory("cpu") is None
    assert gpu.card_name("cpu") == "CPU"


def test_a_card_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.pick_device() == "cpu"
    with pytest.raises(Misconfigured, match="nvidia-smi"):
        gpu.pick_device("cuda")
