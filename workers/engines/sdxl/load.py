"""A checkpoint file becomes a pipeline on the device, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workers.card import gpu, loader, skeleton
from workers.card.loader import Moved, Tensors
from workers.engines.sdxl import fast, vae
from workers.errors import Misconfigured
from workers.settings import CONFIG_DIR

SHIPPED = CONFIG_DIR / "sdxl"
SECOND_PADDING = "!"
"""What the second text encoder was trained to see after the end mark; the first sees the end mark repeated."""
SECOND_ENCODER = "conditioner.embedders.1.model."
KEY_GROUPS = {
    "model.diffusion_model.": "denoiser",
    "first_stage_model.": "VAE",
    "conditioner.embedders.0.transformer.": "first text encoder",
    SECOND_ENCODER: "second text encoder",
}
LIBRARIES = ("diffusers.StableDiffusionXLPipeline", "transformers.CLIPTextModelWithProjection")


def config_for(checkpoint: Path) -> Path:
    """A `config` folder beside the checkpoint, for weights of other sizes, else the shipped one of SDXL."""
    beside = checkpoint.parent / "config"
    return beside if (beside / "model_index.json").is_file() else SHIPPED


def load_pipeline(checkpoint: Path, config: Path, device: str, moved: Moved = lambda done, total: None) -> Any:
    """The pipeline in float16 on a card, else in float32. Raises `Misconfigured`."""
    if not (config / "model_index.json").is_file():
        raise Misconfigured([f"{config} has no model_index.json. Point to a configuration in diffusers layout."])
    dtype = gpu.dtype_for(device, "float16")
    tensors = loader.load([checkpoint], device, lambda name: dtype, moved, LIBRARIES)
    try:
        return _assembled(tensors, config, device)
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        raise Misconfigured(
            [
                f"{checkpoint} does not fit the configuration in {config}: {reason}. "
                "Use a complete checkpoint and the configuration that belongs to it."
            ]
        ) from None


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


def _assembled(tensors: Tensors, config: Path, device: str) -> Any:
    """Raises `ValueError`, `KeyError` and `OSError` where these are not the tensors of this configuration."""
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    classes = {
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
    }
    networks = {part: skeleton.build(network_class, config / part) for part, network_class in classes.items()}
    for part, network in networks.items():
        missing = skeleton.fill(network, _renamed(part, network, tensors), device)
        if missing:
            raise ValueError(f"{part}.{missing[0]} is missing")
    return StableDiffusionXLPipeline.from_pretrained(
        config, local_files_only=True, add_watermarker=False, **networks, **tokenizers()
    )


def _renamed(part: str, network: Any, tensors: Tensors) -> Tensors:
    """A network's own tensors out of those of the file, under the names that its library gives them."""
    from diffusers.loaders import single_file_utils as library

    found: Tensors
    match part:
        case "unet":
            found = library.convert_ldm_unet_checkpoint(tensors, network.config)
        case "vae":
            found = library.convert_ldm_vae_checkpoint(tensors, network.config)
        case "text_encoder":
            found = library.convert_ldm_clip_checkpoint(tensors)
        case _:
            found = library.convert_open_clip_checkpoint(network, tensors, prefix=SECOND_ENCODER)
    if part == "text_encoder" and not hasattr(network, "text_model"):
        return {name.removeprefix("text_model."): tensor for name, tensor in found.items()}
    return found
