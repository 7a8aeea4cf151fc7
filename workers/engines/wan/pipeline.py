"""The diffusers layout on the volume becomes a pipeline on the device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.card import gpu, loader, skeleton, weights
from workers.card.loader import Tensors
from workers.engines.wan.convert import kept_in_fp32
from workers.engines.wan.originals import SHARED, TIED
from workers.errors import Misconfigured

if TYPE_CHECKING:
    import torch

    from workers.watch import Watch

COPY = "Copy the model's folder again."
FOLDERS = ("text_encoder", "transformer", "vae")
LIBRARIES = ("transformers.UMT5EncoderModel", "diffusers.WanPipeline", "diffusers.UniPCMultistepScheduler")


def load(folder: Path, device: str, watch: Watch) -> Any:
    """A `WanPipeline` in bf16 on a card, with what must stay fp32 in fp32; all fp32 elsewhere.

    Raises `Misconfigured` for what is missing or damaged.
    """
    check(folder)
    dtype = gpu.dtype_for(device, "bfloat16")
    words = folder / "text_encoder"
    read = loader.load(_weight_files(words), device, lambda name: dtype, watch.step, LIBRARIES)
    import diffusers
    import transformers

    if TIED in read:
        read.setdefault(SHARED, read[TIED])
    text_encoder = _filled(words, skeleton.build(transformers.UMT5EncoderModel, words), read, device)
    require_tied(text_encoder)
    pipe = diffusers.WanPipeline(
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        scheduler=diffusers.UniPCMultistepScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
        text_encoder=text_encoder,
        transformer=load_model(folder / "transformer", diffusers.WanTransformer3DModel, device, dtype, watch),
        vae=load_model(folder / "vae", diffusers.AutoencoderKLWan, device, dtype, watch),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def check(folder: Path) -> None:
    """Raise `Misconfigured` with every file of the layout that is missing or cut short. Reads headers only."""
    wanted = ("scheduler/scheduler_config.json", *(f"{name}/config.json" for name in FOLDERS))
    problems = [f"{folder / name} is not there. {COPY}" for name in wanted if not (folder / name).is_file()]
    if not any((folder / "tokenizer" / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        problems.append(f"{folder / 'tokenizer'} has neither tokenizer.json nor spiece.model. {COPY}")
    for name in FOLDERS:
        problems += _damage(folder / name)
    if problems:
        raise Misconfigured(problems)


def require_tied(text_encoder: Any) -> None:
    """Some versions of transformers leave the encoder's embedding at zero, and every prompt reads the same."""
    if text_encoder.shared.weight.data_ptr() != text_encoder.encoder.embed_tokens.weight.data_ptr():
        raise Misconfigured(["The text encoder's embedding is not tied. Install transformers 5.23 or later."])


def _damage(folder: Path) -> list[str]:
    problems: list[str] = []
    try:
        files = _weight_files(folder)
    except (ValueError, KeyError):
        return [f"The index in {folder} is damaged. {COPY}"]
    for path in files:
        try:
            weights.check_safetensors(path, {})
        except Misconfigured as error:
            problems += error.problems
    return problems


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold a component, as its index names them; one file of the usual name where there is no index."""
    stem = "model" if folder.name == "text_encoder" else "diffusion_pytorch_model"
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return [folder / f"{stem}.safetensors"]
    return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]


def load_model(folder: Path, model_class: Any, device: str, dtype: torch.dtype, watch: Watch) -> Any:
    """One component, with what must stay fp32 in fp32. Raises `Misconfigured`."""
    import torch

    model = skeleton.build(model_class, folder)
    kept = kept_in_fp32(model)

    def dtype_of(name: str) -> torch.dtype:
        return torch.float32 if kept & set(name.split(".")) else dtype

    return _filled(folder, model, loader.load(_weight_files(folder), device, dtype_of, watch.step), device)


def _filled(folder: Path, model: Any, tensors: Tensors, device: str) -> Any:
    try:
        missing = skeleton.fill(model, tensors, device)
    except ValueError as error:
        raise Misconfigured([f"{folder} does not fit its config.json: {error}. {COPY}"]) from None
    if missing:
        raise Misconfigured([f"{folder} lacks {len(missing)} tensors, {missing[0]} first. {COPY}"])
    return model
