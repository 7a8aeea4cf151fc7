"""The diffusers layout on the volume becomes a pipeline on the device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.card import gpu, weights
from workers.errors import Misconfigured

if TYPE_CHECKING:
    from workers.watch import Watch

COPY = "Copy the model's folder again."
FOLDERS = ("text_encoder", "transformer", "vae")


def load(folder: Path, device: str, watch: Watch) -> Any:
    """A `WanPipeline` in bf16 on a card, with what must stay fp32 in fp32; all fp32 elsewhere.

    Component by component, so that host memory never holds two. Raises `Misconfigured` for what is missing or damaged.
    """
    import diffusers
    import transformers

    check(folder)
    classes: dict[str, Any] = {
        "text_encoder": transformers.UMT5EncoderModel,
        "transformer": diffusers.WanTransformer3DModel,
        "vae": diffusers.AutoencoderKLWan,
    }
    models = {name: load_model(folder / name, classes[name], device, watch).to(device) for name in FOLDERS}
    require_tied(models["text_encoder"])
    pipe = diffusers.WanPipeline(
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        scheduler=diffusers.UniPCMultistepScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
        **models,
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


def load_model(folder: Path, model_class: Any, device: str, watch: Watch) -> Any:
    """One component in host memory, as it is to be on this device. Raises `Misconfigured`."""
    weights.read_ahead(_weight_files(folder), watch.step)
    model, report = model_class.from_pretrained(
        folder, dtype=gpu.dtype_for(device, "bfloat16"), local_files_only=True, output_loading_info=True
    )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise Misconfigured([f"{folder} lacks {len(missing)} tensors, {missing[0]} first. {COPY}"])
    return model
