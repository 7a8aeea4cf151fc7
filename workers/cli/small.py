"""A volume of small checkpoints, laid out as the real one."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from workers.card.weights import make_readable
from workers.cli.screen import tracked
from workers.errors import Misconfigured
from workers.tables import load_models

HUGGINGFACE = "huggingface_cache"
STAGING = ".tiny"
MANIFEST = "manifest.toml"
HEAD = "# Small weights. Sizes of the presets are multiplied by these factors, to multiples of 16.\n\n[scale]\n"
SCALES: Mapping[str, float] = {"sdxl": 0.125, "wan": 0.13333333333}
"""For random weights: 1024*1024 becomes 128*128, 480*832 becomes 64*112."""
TOYS = Path(__file__).resolve().parents[2] / "toys" / "weights"
"""Trained small weights, where this is a checkout; what is not among them is made of random numbers."""


def write_volume(root: Path, *, force: bool = False) -> list[str]:
    """Write what is missing, everything with `force`; the names of what was written.

    The manifest comes first and marks the volume as ours: weights without it are never touched. Each model is
    written beside its place and moved there when it is whole. Raises `Misconfigured`.
    """
    writers = _writers(root)
    present = [folder for folder in writers if (root / folder).exists()]
    if present and not (root / MANIFEST).is_file():
        raise Misconfigured([f"{root} holds {', '.join(present)} of other origin. Choose an empty folder."])
    missing = [folder for folder in writers if force or folder not in present]
    if missing:
        _prepare(root)
        _write_all(root, {folder: writers[folder] for folder in missing})
    return missing


def _writers(root: Path) -> Mapping[str, Callable[[Path], None]]:
    """Top folder below MODEL_ROOT -> what writes it, given a MODEL_ROOT. What refines a model comes after it, and takes
    its sizes."""
    from workers.tiny import adapter, qwen, sdxl, wan

    files = load_models()
    sdxl_folder = files.sdxl.checkpoint.partition("/")[0]
    unet = (root / files.sdxl.checkpoint).parent / "config" / "unet" / "config.json"
    transformer = root / files.wan.weights / "config" / "transformer" / "config.json"
    return {
        sdxl_folder: _trained(sdxl_folder) or sdxl.write,
        files.wan.weights: _trained(files.wan.weights) or wan.write,
        HUGGINGFACE: _trained(HUGGINGFACE) or (lambda staging: qwen.write(staging / HUGGINGFACE)),
        adapter.FOLDER: lambda staging: adapter.write(staging, unet),
        wan.VACE_FOLDER: lambda staging: wan.write_vace(staging, transformer),
    }


def _trained(folder: str) -> Callable[[Path], None] | None:
    """Copies a toy, None where there is none."""
    toy = TOYS / folder
    return (lambda staging: _copy(toy, staging / folder)) if toy.is_dir() else None


def _copy(toy: Path, folder: Path) -> None:
    shutil.copytree(toy, folder)
    make_readable(folder)


def _manifest() -> str:
    shipped = tomllib.loads((TOYS / MANIFEST).read_text(encoding="utf-8")) if (TOYS / MANIFEST).is_file() else {}
    scales = {**SCALES, **shipped.get("scale", {})}
    return HEAD + "".join(f"{kind} = {scale}\n" for kind, scale in scales.items())


def _prepare(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / MANIFEST).write_text(_manifest(), encoding="utf-8")
    except OSError as error:
        raise Misconfigured([f"{root} cannot be written: {error.strerror}. Choose another folder."]) from None


def _write_all(root: Path, writers: Mapping[str, Callable[[Path], None]]) -> None:
    for folder in tracked(writers, "small models"):
        staging = root / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        writers[folder](staging)
        shutil.rmtree(root / folder, ignore_errors=True)
        (staging / folder).rename(root / folder)
        shutil.rmtree(staging)
