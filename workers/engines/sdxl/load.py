"""A checkpoint file becomes a pipeline on the device, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workers.card import gpu
from workers.engines.sdxl import fast, vae
from workers.errors import Misconfigured
from workers.settings import CONFIG_DIR

SHIPPED = CONFIG_DIR / "sdxl"
SECOND_PADDING = "!"
"""What the second text encoder was trained to see after the end mark; the first sees the end mark repeated."""
KEY_GROUPS = {
    "model.diffusion_model.": "denoiser",
    "first_stage_model.": "VAE",
    "conditioner.embedders.0.transformer.": "first text encoder",
    "conditioner.embedders.1.model.": "second text encoder",
}


def config_for(checkpoint: Path) -> Path:
    """A `config` folder beside the checkpoint, for weights of other sizes, else the shipped one of SDXL."""
    beside = checkpoint.parent / "config"
    return beside if (beside / "model_index.json").is_file() else SHIPPED


def load_pipeline(checkpoint: Path, config: Path, device: str) -> Any:
    """The pipeline in float16 on a card, else in float32. Raises `Misconfigured`.

    `from_single_file` maps the file: the weights are read when they are moved to the device.
    """
    if not (config / "model_index.json").is_file():
        raise Misconfigured([f"{config} has no model_index.json. Point to a configuration in diffusers layout."])
    pipeline = _from_file(checkpoint, config, device)
    missing = next((name for name, tensor in _text_tensors(pipeline) if tensor.is_meta), None)
    if missing:
        raise _unfit(checkpoint, config, f"{missing} is missing")
    pipeline.to(device)
    return pipeline


def prepare(pipeline: Any, cache: Path | None = None) -> None:
    """Make a pipeline that is on its device silent, safe in 16 bits, and on a card fast."""
    pipeline.set_progress_bar_config(disable=True)
    vae.shrink(pipeline.vae)
    if gpu.on_card(pipeline.device.type) and fast.possible(pipeline.device.type, cache):
        fast.hasten(pipeline)


def tokenizers() -> dict[str, Any]:
    """Both tokenizers by the pipeline's names for them, from one copy of the vocabulary."""
    from transformers import CLIPTokenizer

    vocabulary = SHIPPED / "tokenizer"
    return {
        "tokenizer": CLIPTokenizer.from_pretrained(vocabulary, local_files_only=True),
        "tokenizer_2": CLIPTokenizer.from_pretrained(vocabulary, local_files_only=True, pad_token=SECOND_PADDING),
    }


def _from_file(checkpoint: Path, config: Path, device: str) -> Any:
    from diffusers import StableDiffusionXLPipeline
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    try:
        return StableDiffusionXLPipeline.from_single_file(
            str(checkpoint),
            config=str(config),
            local_files_only=True,
            dtype=gpu.dtype_for(device, "float16"),
            add_watermarker=False,
            **tokenizers(),
        )
    except NotImplementedError:  # a module without data cannot be cast
        raise _unfit(checkpoint, config, "tensors of the denoiser or the VAE are missing") from None
    except (SingleFileComponentError, ValueError, KeyError, OSError) as error:
        raise _unfit(checkpoint, config, str(error).strip().partition("\n")[0].partition(". ")[0]) from None


def _unfit(checkpoint: Path, config: Path, reason: str) -> Misconfigured:
    return Misconfigured(
        [
            f"{checkpoint} does not fit the configuration in {config}: {reason.rstrip('.')}. "
            "Use a complete checkpoint and the configuration that belongs to it."
        ]
    )


def _text_tensors(pipeline: Any) -> list[tuple[str, Any]]:
    """The text encoders load without complaint where tensors are missing."""
    return [
        (f"{part}.{name}", tensor)
        for part in ("text_encoder", "text_encoder_2")
        for name, tensor in getattr(pipeline, part).named_parameters()
    ]
