"""The transformer and the VAE with less memory traffic: what they compute stays the same, up to rounding.

For cards only. Gains are in docs/performance.md.
"""

from __future__ import annotations

import functools
from types import MethodType
from typing import TYPE_CHECKING, Any

from workers.card.compiled import compiled_rows

if TYPE_CHECKING:
    from torch import Tensor


def fuse_transformer(transformer: Any) -> None:
    """One product for query, key and value, with the model's own weights as views of it; a rotation that reads its
    neighbour instead of writing every second value; bias and GELU where the product is written."""
    linear_gelu()
    transformer.fuse_qkv_projections()
    transformer.rope.forward = MethodType(_signed(transformer.rope.forward), transformer.rope)
    for block in transformer.blocks:
        for attention in (block.attn1, block.attn2):
            _share(attention)
            attention.set_processor(Attention())
        block.ffn.net[0].forward = MethodType(_linear_gelu, block.ffn.net[0])


class Attention:
    """As diffusers' processor for this model, for text-to-video and fused projections."""

    def __call__(
        self, attn: Any, hidden: Tensor, text: Tensor | None = None, mask: None = None, rotary: Any = None
    ) -> Tensor:
        import torch.nn.functional as F

        if text is None:
            query, key, value = attn.to_qkv(hidden).chunk(3, -1)
        else:
            query, (key, value) = attn.to_q(hidden), attn.to_kv(text).chunk(2, -1)
        heads = [x.unflatten(2, (attn.heads, -1)) for x in (attn.norm_q(query), attn.norm_k(key), value)]
        if rotary is not None:
            heads[:2] = [rotated(x, *rotary) for x in heads[:2]]
        mixed = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in heads)).transpose(1, 2)
        out: Tensor = attn.to_out[0](mixed.flatten(2))
        return out


def rotated(x: Tensor, cosine: Tensor, signed_sine: Tensor) -> Tensor:
    """Each pair of neighbours turned by its angle."""
    swapped = x.view(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return (x * cosine + swapped * signed_sine).type_as(x)


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


@functools.cache
def linear_gelu() -> Any:
    """Linear layer and GELU (tanh) as one operator, which a compiler leaves whole: cuBLAS computes both at once."""
    import torch
    import torch.nn.functional as F

    @torch.library.custom_op(
        "ourvidz::linear_gelu", mutates_args=(), schema="(Tensor x, Tensor weight, Tensor bias) -> Tensor"
    )
    def operator(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if not x.is_cuda:
            return F.gelu(F.linear(x, weight, bias), approximate="tanh")
        flat: Tensor = torch._addmm_activation(bias, x.flatten(0, -2), weight.t(), use_gelu=True)
        return flat.view(*x.shape[:-1], -1)

    @operator.register_fake
    def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return x.new_empty(*x.shape[:-1], len(weight))

    return operator


def _linear_gelu(self: Any, hidden: Tensor) -> Tensor:
    import torch

    out: Tensor = torch.ops.ourvidz.linear_gelu(hidden, self.proj.weight, self.proj.bias)
    return out


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
    made: Tensor = compiled_rows(norm_silu)(pixels.reshape(-1, pixels.shape[-1]), self.gamma.flatten())
    return made.view(pixels.shape).permute(0, 4, 1, 2, 3)


def norm_silu(rows: Tensor, gamma: Tensor) -> Tensor:
    import torch.nn.functional as F

    return F.silu(F.normalize(rows.float(), dim=1).to(rows.dtype) * len(gamma) ** 0.5 * gamma)
