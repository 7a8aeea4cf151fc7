"""A small IP-Adapter for a small SDXL: the true classes and names of tensors, random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.card.weights import make_readable, quiet_libraries

if TYPE_CHECKING:
    import torch

FOLDER = "ip-adapter-sdxl"
WEIGHTS = f"{FOLDER}/ip-adapter-plus_sdxl_vit-h.safetensors"
ENCODER = f"{FOLDER}/image_encoder"
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 24,
}
HEAD = 64
"""What diffusers takes a resampler's heads to be wide."""

DEPTH, TOKENS = 4, 4
GAIN = 8.0
"""Random weights hardly show a picture: with this it changes pixels."""


def write(folder: Path, unet_config: Path, seed: int = 0) -> None:
    """Write adapter and encoder below `folder`, a MODEL_ROOT, for a denoiser of this `config.json`."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    quiet_libraries()
    unet = json.loads(unet_config.read_text())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(folder / ENCODER)
        tensors = _projection(unet["cross_attention_dim"]) | _attention(unet)
        save_file(tensors, folder / WEIGHTS)
    make_readable((folder / WEIGHTS).parent)


def _projection(width: int) -> dict[str, torch.Tensor]:
    """The resampler of the adapters that are called "plus", under its authors' names."""
    import torch

    hidden, seen = HEAD, VISION["hidden_size"]
    shapes = {
        "latents": (1, TOKENS, hidden),
        "proj_in.weight": (hidden, seen),
        "proj_in.bias": (hidden,),
        "proj_out.weight": (width, hidden),
        "proj_out.bias": (width,),
        "norm_out.weight": (width,),
        "norm_out.bias": (width,),
    }
    for layer in range(DEPTH):
        attention, forward = f"layers.{layer}.0", f"layers.{layer}.1"
        shapes |= {
            f"{attention}.{norm}.{kind}": (hidden,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")
        }
        shapes |= {
            f"{attention}.to_q.weight": (hidden, hidden),
            f"{attention}.to_kv.weight": (2 * hidden, hidden),
            f"{attention}.to_out.weight": (hidden, hidden),
            f"{forward}.0.weight": (hidden,),
            f"{forward}.0.bias": (hidden,),
            f"{forward}.1.weight": (4 * hidden, hidden),
            f"{forward}.3.weight": (hidden, 4 * hidden),
        }
    return {f"image_proj.{name}": torch.randn(shape) / shape[-1] ** 0.5 for name, shape in shapes.items()}


def _attention(unet: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Keys and values of every attention to text; they are numbered with those of self-attention in between."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        names = UNet2DConditionModel.from_config(unet).attn_processors
    tensors = {}
    for number, name in enumerate(names):
        if name.endswith("attn2.processor"):
            shape = (_width(name, unet["block_out_channels"]), unet["cross_attention_dim"])
            for part in ("to_k_ip", "to_v_ip"):
                tensors[f"ip_adapter.{number}.{part}.weight"] = torch.randn(shape) * GAIN / shape[1] ** 0.5
    return tensors


def _width(name: str, widths: list[int]) -> int:
    side, _, rest = name.partition(".")
    if side == "mid_block":
        return widths[-1]
    block = int(rest.partition(".")[0])
    return (widths if side == "down_blocks" else widths[::-1])[block]
