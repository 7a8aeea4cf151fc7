"""The names that SDXL's original code gives to what diffusers and transformers name in their own way.

No package converts in this direction. Keys go in and out one by one, without the prefix of their network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

BLOCK = 3
"""Entries of the original flat lists per diffusers block: two layers and, but for the last, a change of size."""
VAE_LEVELS = 4

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
_VAE = {
    "down_blocks": "down",
    "resnets": "block",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "mid_block.block.0": "mid.block_1",
    "mid_block.block.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "attn_1.group_norm": "attn_1.norm",
    "attn_1.to_q": "attn_1.q",
    "attn_1.to_k": "attn_1.k",
    "attn_1.to_v": "attn_1.v",
    "attn_1.to_out.0": "attn_1.proj_out",
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
}
_OPEN_CLIP = {
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
    "text_projection.weight": "text_projection",
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


def vae_key(key: str) -> str:
    key = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{VAE_LEVELS - 1 - int(found[1])}", key)
    return _replaced(key, _VAE)


def open_clip_key(key: str) -> str:
    return _replaced(key, _OPEN_CLIP)


def _resnet(key: str) -> str:
    """A residual block's layer is the last but one part of a key; transformers name theirs alike in both."""
    entry, name, kind = key.rsplit(".", 2)
    return key if "transformer_blocks" in entry else f"{entry}.{_RESNET.get(name, name)}.{kind}"


def _replaced(key: str, names: Mapping[str, str]) -> str:
    for ours, theirs in names.items():
        key = key.replace(ours, theirs)
    return key
