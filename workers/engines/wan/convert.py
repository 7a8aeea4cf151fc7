"""The authors' files become the diffusers layout in bf16, once, beside them on the volume.

Loading the authors' files directly would cast modules that must stay fp32, and read twice the bytes at every start.
A stamp with the sizes and times of the sources says whether a conversion is still theirs; a lock file lets one
process convert while others wait; the folder appears by renaming, so that what is there is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.card import weights
from workers.engines.wan import originals
from workers.errors import Misconfigured
from workers.settings import CONFIG_DIR
from workers.watch import Watch

if TYPE_CHECKING:
    import torch
    from torch import nn

STAMP = "conversion.json"
FORMAT = 1
"""Raise it when a change of this file makes earlier conversions unfit."""

SHARD = "2GB"
LOCK_POLL = 0.2
Stamp = dict[str, Any]


def ready_folder(root: Path, converted: Path, watch: Watch) -> Path:
    """The folder to load from: `root` if it has the diffusers layout, else `converted`, made now where needed.

    A layout at `converted` that was not made here is somebody's own: it is used and never replaced. Raises
    `Misconfigured` with every problem: missing or damaged files, a volume that cannot be written or is full.
    """
    if (root / "model_index.json").is_file():
        return root
    if (converted / "model_index.json").is_file() and not (converted / STAMP).exists():
        return converted
    known = _stamped(converted)
    if known is not None and not any((root / component.file).is_file() for component in originals.COMPONENTS):
        return converted  # whoever needs the space may delete the sources
    problems = originals.missing(root)
    if problems:
        raise Misconfigured(problems)
    stamp = _stamp(root)
    if known != stamp:
        _convert_alone(root, converted, stamp, watch)
    return converted


def config_folder(root: Path) -> Path:
    """The configurations beside the weights, where there are any, win over the shipped ones of the real model."""
    beside = root / "config"
    return beside if (beside / "model_index.json").is_file() else CONFIG_DIR / "wan"


def _stamp(root: Path) -> Stamp:
    """What a conversion of these sources is known by. Configurations count by content: each install has new times."""
    config = hashlib.sha256()
    for path in sorted(config_folder(root).rglob("*.json")):
        config.update(path.read_bytes())
    sources = {
        str(path.relative_to(root)): [path.stat().st_size, path.stat().st_mtime_ns] for path in originals.files(root)
    }
    return {"format": FORMAT, "config": config.hexdigest(), "sources": sources}


def _stamped(converted: Path) -> Stamp | None:
    """The stamp of a conversion that is still whole, None otherwise."""
    try:
        stamp: Stamp = json.loads((converted / STAMP).read_text())
        files: dict[str, int] = stamp.pop("files")
        whole = all((converted / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return stamp if whole else None


def _convert_alone(root: Path, converted: Path, stamp: Stamp, watch: Watch) -> None:
    from safetensors import SafetensorError

    weights.quiet_libraries()
    try:
        with _locked(_sibling(converted, "lock"), watch):
            if _stamped(converted) != stamp:
                with watch.phase("convert"):
                    _convert(root, converted, stamp, watch)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Misconfigured(
            [
                f"The video model cannot be converted to {converted} ({reason}). Start once with a volume that can be "
                f"written, or put the diffusers layout of the model into {root}."
            ]
        ) from None


@contextmanager
def _locked(path: Path, watch: Watch) -> Iterator[None]:
    """Hold an exclusive lock, which the kernel frees when its holder dies. The marker moves while waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        while not _taken(file.fileno()):
            watch.step(0, 0)
            time.sleep(LOCK_POLL)
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _convert(root: Path, converted: Path, stamp: Stamp, watch: Watch) -> None:
    config, new = config_folder(root), _sibling(converted, "new")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    found = originals.read_all(root, config)
    _require_space(converted.parent, found)
    weights.read_ahead([root / component.file for component in originals.COMPONENTS], watch.step)
    try:
        shutil.copytree(config, new)
        shutil.copytree(root / originals.TOKENIZER, new / "tokenizer", dirs_exist_ok=True)
        for done, component in enumerate(originals.COMPONENTS, start=1):
            _write(component, found.pop(component.folder), config, new)
            watch.step(done, len(originals.COMPONENTS))
        _seal(new, stamp)
        _publish(new, converted)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write(component: originals.Component, tensors: originals.Tensors, config: Path, new: Path) -> None:
    """Only tensors that change their dtype are copied into memory: at most one component, in bf16."""
    from huggingface_hub import save_torch_state_dict

    kept = kept_in_fp32(component.skeleton(config))
    stored = {name: tensor.to(_dtype(name, kept)) for name, tensor in tensors.items()}
    save_torch_state_dict(
        stored,
        new / component.folder,
        filename_pattern=component.weights + "{suffix}.safetensors",
        max_shard_size=SHARD,
    )


def kept_in_fp32(model: nn.Module) -> frozenset[str]:
    """Names of modules that diffusers computes in fp32. (transformers' list of that name is about fp16 only.)"""
    from diffusers import ModelMixin

    return frozenset(model._keep_in_fp32_modules or ()) if isinstance(model, ModelMixin) else frozenset()


def _dtype(name: str, kept: frozenset[str]) -> torch.dtype:
    import torch

    return torch.float32 if kept & set(name.split(".")) else torch.bfloat16


def _require_space(volume: Path, found: dict[str, originals.Tensors]) -> None:
    """bf16 halves what is stored in fp32; the few tensors kept in fp32 are within the margin."""
    needed = int(1.02 * sum(2 * tensor.numel() for tensors in found.values() for tensor in tensors.values()))
    free = shutil.disk_usage(volume).free
    if free < needed:
        raise Misconfigured(
            [f"Converting the video model needs {needed / 1e9:.1f} GB on {volume}, {free / 1e9:.1f} GB are free."]
        )


def _seal(new: Path, stamp: Stamp) -> None:
    """Everything is on the disk and readable by all, and the stamp, written last, lists every file's size."""
    written = [path for path in sorted(new.rglob("*")) if path.is_file()]
    files = {str(path.relative_to(new)): path.stat().st_size for path in written}
    (new / STAMP).write_text(json.dumps({**stamp, "files": files}, indent=2))
    weights.make_readable(new)
    for path in [*written, new / STAMP]:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _publish(new: Path, converted: Path) -> None:
    """Replace an earlier conversion, nothing else. Processes that have it mapped keep it."""
    old = _sibling(converted, "old")
    shutil.rmtree(old, ignore_errors=True)
    if (converted / STAMP).exists():
        converted.rename(old)
    new.rename(converted)
    shutil.rmtree(old, ignore_errors=True)


def _sibling(converted: Path, suffix: str) -> Path:
    return converted.with_name(f".{converted.name}.{suffix}")
