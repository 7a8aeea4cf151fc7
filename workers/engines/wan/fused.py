"""The transformer and the VAE with less memory traffic: what they compute stays the same, up to rounding.

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
    neighbour instead of writing every second value; bias and GELU where the product is written."""
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


def fuse_vae(vae: Any) -> None:
    """Channels last, as the convolutions compute anyway; no padded copies; norm and SiLU in one pass."""
    from diffusers.models.autoencoders import autoencoder_kl_wan as wan
    from torch import nn

    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            _channels_last(module)
        if isinstance(module, wan.WanCausalConv3d):
            module.forward = MethodType(_convolved, module)
        if isinstance(module, wan.WanUpsample):
            module.forward = MethodType(nn.Upsample.forward, module)  # copies values, so float32 adds nothing
    for block in [vae.decoder, *(m for m in vae.decoder.modules() if isinstance(m, wan.WanResidualBlock))]:
        for norm in [getattr(block, name) for name in ("norm1", "norm2", "norm_out") if hasattr(block, name)]:
            norm.forward = MethodType(_normed, norm)
        block.nonlinearity = nn.Identity()


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


def _channels_last(conv: Any) -> None:
    import torch

    layout = torch.channels_last_3d if conv.weight.ndim == 5 else torch.channels_last
    conv.weight.data = conv.weight.data.contiguous(memory_format=layout)


def _convolved(self: Any, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
    """Frames of the past, or zeros, in front; the edges of the picture are left to the convolution."""
    import torch
    import torch.nn.functional as F

    columns, _, rows, _, front, _ = self._padding
    if cache_x is not None and front > 0:
        x = torch.cat([cache_x, x], dim=2)
        front -= cache_x.shape[2]
    if front > 0:
        x = F.pad(x, (0, 0, 0, 0, front, 0))
    return F.conv3d(x, self.weight, self.bias, self.stride, (0, rows, columns))


def _normed(self: Any, x: Tensor) -> Tensor:
    pixels = x.permute(0, 2, 3, 4, 1)
    made = ops.norm_silu(pixels.reshape(-1, pixels.shape[-1]), self.gamma.flatten())
    return made.view(pixels.shape).permute(0, 4, 1, 2, 3)
