"""The names that the video model's authors give to the transformer's tensors, and how LoRA files spell its modules."""

from __future__ import annotations

import re

Renames = tuple[tuple[str, str], ...]
"""Patterns of diffusers' names and what the authors have in their place, applied one after the other."""

TRANSFORMER_NAMES: Renames = (
    (r"^condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"^condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"^condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"^condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"^condition_embedder\.time_proj", "time_projection.1"),
    (r"^scale_shift_table", "head.modulation"),
    (r"^proj_out", "head.head"),
    (r"\.scale_shift_table", ".modulation"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.norm2\.", ".norm3."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
)


def original_name(name: str, renames: Renames) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def lora_names(path: str) -> tuple[str, ...]:
    """diffusers' own name of a module, the authors', and kohya's after either."""
    original = original_name(f"{path}.weight", TRANSFORMER_NAMES).removesuffix(".weight")
    kohya = (f"lora_unet_{name.replace('.', '_')}" for name in (path, original))
    return f"transformer.{path}", f"diffusion_model.{original}", original, *kohya
