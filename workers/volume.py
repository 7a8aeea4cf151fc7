"""What has to lie on the volume before a worker can load: looked at without reading a weight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workers.engines.qwen.snapshot import pick_snapshot
from workers.errors import Misconfigured
from workers.settings import ModelFiles

WAN_ORIGINAL = (
    "diffusion_pytorch_model.safetensors",
    "Wan2.1_VAE.pth",
    "models_t5_umt5-xxl-enc-bf16.pth",
    "google/umt5-xxl",
)
WAN_DIFFUSERS = "model_index.json"
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
        yield from _qwen(huggingface)


def _wan(folder: Path) -> Iterator[str]:
    if (folder / WAN_DIFFUSERS).is_file():
        return
    for name in WAN_ORIGINAL:
        if not (folder / name).exists():
            yield f"{folder / name} is missing. {FIX}"


def _qwen(huggingface: Path) -> Iterator[str]:
    try:
        pick_snapshot(huggingface, "auto")
    except Misconfigured as error:
        yield from error.problems
