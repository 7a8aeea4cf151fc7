"""How large the toys are: what differs from the configurations of the real models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Sizes = Mapping[str, Mapping[str, Any]]

SDXL_SIDE = 64
SDXL: Sizes = {
    "unet": {
        "addition_time_embed_dim": 8,
        "attention_head_dim": [2, 4, 4],
        "block_out_channels": [32, 64, 96],
        "cross_attention_dim": 80,
        "norm_num_groups": 4,
        "projection_class_embeddings_input_dim": 48 + 6 * 8,
        "sample_size": SDXL_SIDE // 8,
        "transformer_layers_per_block": [1, 1, 1],
    },
    "vae": {"block_out_channels": [16, 32, 40, 40], "norm_num_groups": 2, "sample_size": SDXL_SIDE},
    "text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2},
    "text_encoder_2": {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_attention_heads": 3,
        "num_hidden_layers": 3,
        "projection_dim": 48,
    },
}
"""Few groups in the norms: one that sees two channels takes a flat picture's colour away."""

QWEN: Mapping[str, int] = {
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
QWEN_VOCABULARY = 900

WAN_SIZE = (48, 80)
"""Width and height of 480*832 for the video toy."""
WAN_FRAMES = 81
WAN_VOCABULARY = 600
WAN: Sizes = {
    "transformer": {
        "num_layers": 5,
        "num_attention_heads": 4,
        "attention_head_dim": 32,
        "ffn_dim": 384,
        "freq_dim": 64,
        "text_dim": 48,
    },
    "vae": {"base_dim": 8},
    "text_encoder": {"d_model": 48, "d_kv": 12, "d_ff": 96, "num_heads": 4, "num_layers": 2, "vocab_size": 640},
}

SCALES: Mapping[str, float] = {"sdxl": 0.0625, "wan": 0.1}
"""What sizes of the presets are multiplied by: 1024*1024 becomes 64*64, 480*832 becomes 48*80."""
