"""The names that SDXL's original code gives to what diffusers and transformers name in their own way.

No package converts in this direction. Keys go in and out one by one, without the prefix of their network. Those of
the denoiser are in `engines/sdxl/names.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

VAE_LEVELS = 4

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


def vae_key(key: str) -> str:
    key = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{VAE_LEVELS - 1 - int(found[1])}", key)
    return _replaced(key, _VAE)


def open_clip_key(key: str) -> str:
    return _replaced(key, _OPEN_CLIP)


def _replaced(key: str, names: Mapping[str, str]) -> str:
    for ours, theirs in names.items():
        key = key.replace(ours, theirs)
    return key
