"""What has to lie on the volume before a worker can load: looked at without reading a weight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from workers.settings import ModelFiles

WAN_ORIGINAL = (
    "diffusion_pytorch_model.safetensors",
    "Wan2.1_VAE.pth",
    "models_t5_umt5-xxl-enc-bf16.pth",
    "google/umt5-xxl",
)
WAN_DIFFUSERS = "model_index.json"
Variant = Literal["instruct", "base"]
FIX = "Put it there, or point MODEL_ROOT at the volume that has it."


def problems(model_root: Path, huggingface: Path, models: ModelFiles, kinds: tuple[str, ...]) -> Iterator[str]:
    """One sentence for each thing that the named worker kinds would miss, with the fix."""
    if not model_root.is_dir():
        yield f"MODEL_ROOT {model_root} is not a folder. Mount the volume, or set MODEL_ROOT to where the weights lie."
        return
    if "sdxl" in kinds and not (model_root / models.sdxl.checkpoint).is_file():
        yield f"{model_root / models.sdxl.checkpoint} is missing. {FIX}"
    if "wan" in kinds:
        yield from _wan(model_root / models.wan.weights)
        if find_qwen(huggingface, models, "auto") is None:
            yield f"{huggingface / 'hub' / models.qwen.base} has no complete snapshot. {FIX}"


def find_qwen(huggingface: Path, models: ModelFiles, wanted: Variant | Literal["auto"]) -> tuple[Variant, Path] | None:
    """The variant and its snapshot folder; "auto" prefers the instruction-tuned one."""
    folders: dict[Variant, str] = {"instruct": models.qwen.instruct, "base": models.qwen.base}
    for name in folders:
        if wanted in ("auto", name) and (snapshot := newest_snapshot(huggingface / "hub" / folders[name])):
            return name, snapshot
    return None


def newest_snapshot(repository: Path) -> Path | None:
    """The snapshot that `refs/main` names, else the newest one with a configuration."""
    named = repository / "refs" / "main"
    if named.is_file():
        chosen = repository / "snapshots" / named.read_text().strip()
        if (chosen / "config.json").is_file():
            return chosen
    complete = [p.parent for p in repository.glob("snapshots/*/config.json")]
    return max(complete, key=lambda p: p.stat().st_mtime, default=None)


def _wan(folder: Path) -> Iterator[str]:
    if (folder / WAN_DIFFUSERS).is_file():
        return
    for name in WAN_ORIGINAL:
        if not (folder / name).exists():
            yield f"{folder / name} is missing. {FIX}"
