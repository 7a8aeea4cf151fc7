"""The transformer with less memory traffic: what it computes stays the same, up to rounding.

What stands between the products is in `ops.py`. For cards only. Gains are in docs/performance.md.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from workers.engines.wan import ops

if TYPE_CHECKING:
    from torch import Tensor

Keys = tuple["Tensor", "Tensor"]
"""And values."""


def fuse_transformer(transformer: Any) -> None:
    """One product for query, key and value, with the model's own weights as views of it; a rotation that reads its
    neighbour instead of writing every second value; bias and GELU where the product is written; the last norm in one
    pass."""
    transformer.forward = MethodType(_velocity, transformer)
    transformer.fuse_qkv_projections()
    transformer.rope.forward = MethodType(_signed(transformer.rope.forward), transformer.rope)
    for block in transformer.blocks:
        for attention in (block.attn1, block.attn2):
            _share(attention)
            attention.set_processor(Attention())
        block.ffn.net[0].forward = MethodType(_linear_gelu, block.ffn.net[0])


class Attention:
    """As diffusers' processor for this model, for text-to-video and fused projections. `kept`: what is read instead of
    the text."""

    kept: Keys | None = None

    def __call__(
        self, attn: Any, hidden: Tensor, text: Tensor | None = None, mask: None = None, rotary: Any = None
    ) -> Tensor:
        import torch.nn.functional as F

        if text is None:
            query, key, value = attn.to_qkv(hidden).chunk(3, -1)
            key, value = ops.heads(key, attn.norm_k, attn.heads, rotary), value.unflatten(2, (attn.heads, -1))
        else:
            query, (key, value) = attn.to_q(hidden), self.kept or read(attn, text)
        query = ops.heads(query, attn.norm_q, attn.heads, rotary)
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        out: Tensor = attn.to_out[0](mixed.flatten(2))
        return out


def read(attention: Any, text: Tensor) -> Keys:
    """Keys and values (texts, tokens, heads, head width)."""
    key, value = attention.to_kv(text).chunk(2, -1)
    return ops.heads(key, attention.norm_k, attention.heads), value.unflatten(2, (attention.heads, -1))


def _velocity(self: Any, latents: Tensor, time: Tensor, text: Tensor, return_dict: bool = False) -> tuple[Tensor]:
    """As the library's, which takes more kinds of input. `time` is (samples,)."""
    patch = self.config.patch_size
    grid = [size // side for size, side in zip(latents.shape[2:], patch, strict=True)]
    hidden = self.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
    told, by_block, text, _ = self.condition_embedder(time, text, None)
    by_block, rotary = by_block.unflatten(1, (6, -1)), self.rope(latents)
    for block in self.blocks:
        hidden = block(hidden, text, by_block, rotary)
    shift, scale = (self.scale_shift_table + told[:, None]).chunk(2, dim=1)
    normed = ops.add_norm(hidden, None, None, scale, shift, one=1, eps=self.norm_out.eps)[1]
    patches = self.proj_out(normed).unflatten(2, (*patch, -1)).unflatten(1, grid)
    return (patches.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3),)


def _signed(forward: Any) -> Any:
    """The rotation's sine with a minus for the first of each pair."""

    def signed(_: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        cosine, sine = forward(hidden)
        return cosine, torch.stack((-sine[..., 0::2], sine[..., 1::2]), -1).flatten(-2)

    return signed


def _share(attention: Any) -> None:
    """Let the separate weights be views of the fused ones, which the library has copied."""
    cross = attention.is_cross_attention
    whole = attention.to_kv if cross else attention.to_qkv
    parts = (attention.to_k, attention.to_v) if cross else (attention.to_q, attention.to_k, attention.to_v)
    for name in ("weight", "bias"):
        views = getattr(whole, name).data.chunk(len(parts))
        for part, view in zip(parts, views, strict=True):
            getattr(part, name).data = view


def _linear_gelu(self: Any, hidden: Tensor) -> Tensor:
    return ops.linear_gelu(hidden, self.proj.weight, self.proj.bias)
