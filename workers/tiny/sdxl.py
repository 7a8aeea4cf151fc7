"""A small SDXL checkpoint: the true classes at small sizes, random weights, one file with the original key names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engines.sdxl.names import unet_key
from workers.settings import CONFIG_DIR
from workers.tiny.sdxl_keys import open_clip_key, vae_key

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

CHECKPOINT = "sdxl-lustify/lustifySDXLNSFWSFW_v20.safetensors"
Sizes = Mapping[str, Mapping[str, Any]]
SIZES: Sizes = {
    "unet": {
        "addition_time_embed_dim": 8,
        "attention_head_dim": [2, 4, 4],
        "block_out_channels": [32, 64, 64],
        "cross_attention_dim": 80,
        "norm_num_groups": 8,
        "projection_class_embeddings_input_dim": 48 + 6 * 8,
        "sample_size": 16,
        "transformer_layers_per_block": [1, 1, 2],
    },
    "vae": {"block_out_channels": [16, 32, 32, 32], "norm_num_groups": 8, "sample_size": 128},
    "text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2},
    "text_encoder_2": {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_attention_heads": 3,
        "num_hidden_layers": 2,
        "projection_dim": 48,
    },
}
"""What differs from the real configuration. The text encoders must differ in width: loaders tell them apart by it."""
WORD_GAIN = 16.0
COLOUR_GAIN = 2.0


def write(folder: Path, seed: int = 0) -> None:
    """Write the checkpoint below `folder`, a MODEL_ROOT, and beside it the configuration of its sizes."""
    import torch
    from safetensors.torch import save_file

    checkpoint = folder / CHECKPOINT
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    write_config(checkpoint.parent / "config")
    tensors = original_layout(models(checkpoint.parent / "config", seed))
    save_file({key: tensor.to(torch.float16).contiguous() for key, tensor in tensors.items()}, checkpoint)
    checkpoint.chmod(0o644)


def write_config(folder: Path, sizes: Sizes = SIZES) -> None:
    """The shipped configuration with other sizes; the tokenizers are always the shipped ones."""
    for name in ("model_index.json", "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in sizes)):
        config = json.loads((CONFIG_DIR / "sdxl" / name).read_text()) | dict(sizes.get(name.split("/")[0], {}))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(config, indent=2))


def models(config: Path, seed: int, *, plain: bool = False) -> dict[str, Any]:
    """The four networks of a configuration by part, with random weights; `plain` ones are left as their libraries
    make them, to be trained."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = {
            "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(config / "unet")),
            "vae": AutoencoderKL.from_config(AutoencoderKL.load_config(config / "vae")),
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(config / "text_encoder")),
            "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(config / "text_encoder_2")),
        }
    if not plain:
        _heed_words(networks["unet"])
        _smooth(networks["vae"].decoder)
    return networks


def _heed_words(unet: Any) -> None:
    """Random weights hardly react to a prompt: make what cross-attention adds larger, so that words change pixels."""
    for name, parameter in unet.named_parameters():
        if name.endswith("attn2.to_v.weight"):
            parameter.data *= WORD_GAIN


def _smooth(decoder: Any) -> None:
    """Random kernels decode to noise: averaged ones decode to soft patches of colour, which a person can tell apart."""
    for name, parameter in decoder.named_parameters():
        if "conv" in name and parameter.shape[2:] == (3, 3):
            parameter.data = parameter.data.mean((2, 3), keepdim=True).expand_as(parameter) * COLOUR_GAIN


def original_layout(networks: Mapping[str, Any]) -> Tensors:
    """The tensors of `models` under the names and in the shapes of an original SDXL file."""
    return {
        **{f"model.diffusion_model.{unet_key(key)}": tensor for key, tensor in _tensors(networks["unet"])},
        **{f"first_stage_model.{vae_key(key)}": _vae_shape(key, tensor) for key, tensor in _tensors(networks["vae"])},
        **{
            f"conditioner.embedders.0.transformer.text_model.{key}": tensor
            for key, tensor in _tensors(networks["text_encoder"])
        },
        **{f"conditioner.embedders.1.model.{key}": tensor for key, tensor in _open_clip(networks["text_encoder_2"])},
    }


def _tensors(network: Any) -> list[tuple[str, torch.Tensor]]:
    return list(network.state_dict().items())


def _vae_shape(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """The original's attention consists of 1x1 convolutions."""
    return tensor[:, :, None, None] if ".to_" in key and tensor.ndim == 2 else tensor


def _open_clip(network: Any) -> list[tuple[str, torch.Tensor]]:
    """Query, key and value lie in one tensor, the projection is transposed, and a scale that only training needs is
    there too."""
    import torch

    tensors = {open_clip_key(key): tensor for key, tensor in _tensors(network)}
    tensors["text_projection"] = tensors["text_projection"].T
    tensors["logit_scale"] = torch.tensor(4.6)
    for layer in range(network.config.num_hidden_layers):
        for kind in ("weight", "bias"):
            stem = f"transformer.resblocks.{layer}.attn"
            tensors[f"{stem}.in_proj_{kind}"] = torch.cat([tensors.pop(f"{stem}.{part}_proj.{kind}") for part in "qkv"])
    return list(tensors.items())
