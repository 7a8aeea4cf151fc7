"""The names that SDXL's original code gives to the denoiser's tensors, and how LoRA files spell its modules.

No package converts in this direction. Keys go in and out one by one, without the prefix of their network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from workers.engines.loras import Names, text_encoder_names

BLOCK = 3
"""Entries of the original flat lists per diffusers block: two layers and, but for the last, a change of size."""

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def unet_key(key: str) -> str:
    for ours, theirs in _UNET_ENDS.items():
        if key.startswith(ours + "."):
            return _resnet(theirs + key.removeprefix(ours))
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", key)
    assert found, key
    side, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    match kind:
        case "downsamplers":
            return f"input_blocks.{(block + 1) * BLOCK}.0.{rest.replace('conv', 'op')}"
        case "upsamplers":
            return f"output_blocks.{(block + 1) * BLOCK - 1}.2.{rest}"
    entry = f"input_blocks.{block * BLOCK + layer + 1}" if side == "down" else f"output_blocks.{block * BLOCK + layer}"
    return _resnet(f"{entry}.0.{rest}") if kind == "resnets" else f"{entry}.1.{rest}"


def lora_names(path: str) -> tuple[str, ...]:
    """diffusers' own name of a module, and kohya's after either layout; none for what is no part of the original."""
    if not path.startswith((*_UNET_ENDS, "down_blocks.", "up_blocks.")) or ".processor" in path:
        return ()
    original = unet_key(f"{path}.weight").removesuffix(".weight")
    return f"unet.{path}", f"lora_unet_{path.replace('.', '_')}", f"lora_unet_{original.replace('.', '_')}"


def lora_networks(pipeline: Any) -> Mapping[Any, Names]:
    """The networks that a LoRA may change, each with its way of spelling."""
    return {
        pipeline.unet: lora_names,
        pipeline.text_encoder: text_encoder_names("text_encoder", "te1"),
        pipeline.text_encoder_2: text_encoder_names("text_encoder_2", "te2"),
    }


def _resnet(key: str) -> str:
    """A residual block's layer is the last but one part of a key; transformers name theirs alike in both."""
    entry, name, kind = key.rsplit(".", 2)
    return key if "transformer_blocks" in entry else f"{entry}.{_RESNET.get(name, name)}.{kind}"
