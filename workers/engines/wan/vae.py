"""The VAE with less memory traffic: what it computes stays the same, up to rounding.

torch adds a convolution's bias in a pass of its own, and the library copies all frames to put two of the past in front.
Here a bias is added by whatever reads the convolution's result next, and frames are written where they are read. Videos
come one at a time: then frames lie in memory one after the other. For cards only; gains are in docs/performance.md.
"""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any

from workers.engines.doubling import doubling
from workers.engines.wan import ops

if TYPE_CHECKING:
    from torch import Tensor

Past = list["Tensor | None"]
"""The library's memory: for each causal convolution what it read last, (1, channels, frames, height, width)."""


def fuse_vae(vae: Any) -> None:
    """Channels last, as the convolutions compute anyway; no padded copies, no doubled ones; norm and SiLU in one pass,
    with the bias."""
    from diffusers.models.autoencoders import autoencoder_kl_wan as wan
    from torch import nn

    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            _channels_last(module)
        if isinstance(module, wan.WanCausalConv3d):
            module.forward = MethodType(_convolved, module)
        if isinstance(module, wan.WanResidualBlock):
            module.forward = MethodType(_residual, module)
        if isinstance(module, wan.WanResample) and module.mode.startswith("upsample"):
            module.resample.forward = _doubled(module.resample[1])
    for half in (vae.encoder, vae.decoder):
        half.norm_out.forward = MethodType(_normed, half.norm_out)
        half.nonlinearity = nn.Identity()


def _doubled(conv: Any) -> Any:
    """In the place of doubling and `conv`."""
    from torch.nn.functional import conv_transpose2d

    return partial(conv_transpose2d, weight=doubling(conv.weight.data), bias=conv.bias, stride=2, padding=1)


def _channels_last(conv: Any) -> None:
    import torch

    layout = torch.channels_last_3d if conv.weight.ndim == 5 else torch.channels_last
    conv.weight.data = conv.weight.data.contiguous(memory_format=layout)


def _convolved(self: Any, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
    """Frames of the past, or zeros, in front."""
    import torch
    import torch.nn.functional as F

    front = self._padding[4]
    if cache_x is not None and front > 0:
        x = torch.cat([cache_x, x], dim=2)
        front -= cache_x.shape[2]
    if front > 0:
        x = F.pad(x, (0, 0, 0, 0, front, 0))
    return _convolution(self, x, self.bias)


def _normed(self: Any, x: Tensor) -> Tensor:
    return _video(ops.norm_silu(_rows(x), self.gamma.flatten()), x)


def _residual(self: Any, x: Tensor, feat_cache: Past | None = None, feat_idx: list[int] | None = None) -> Tensor:
    past, place = feat_cache or [None, None], feat_idx or [0]
    hidden = _seen(self.conv1, self.norm1, x, None, past, place)
    hidden = _seen(self.conv2, self.norm2, hidden, self.conv1.bias, past, place)
    skip, bias = x, self.conv2.bias
    if self.in_dim != self.out_dim:
        skip, bias = _convolution(self.conv_shortcut, x, None), bias.float() + self.conv_shortcut.bias
    return _video(ops.add_bias_(_rows(hidden), _rows(skip), bias), hidden)


def _seen(conv: Any, norm: Any, x: Tensor, bias: Tensor | None, past: Past, place: list[int]) -> Tensor:
    """What a convolution without its bias makes of the norm and SiLU of `x` plus `bias`. What it remembers is at
    `place` in `past`; the place moves on, to the next convolution's."""
    import torch

    front, (videos, width, frames, *size) = conv._padding[4], x.shape
    whole = torch.empty(
        (videos, width, front + frames, *size), dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d
    )
    before = past[place[0]]
    whole[:, :, :front] = 0 if before is None else before
    ops.norm_silu(_rows(x), norm.gamma.flatten(), bias, _pixels(whole[:, :, front:]).view(-1, width))
    past[place[0]] = whole[:, :, -front:].clone()
    place[0] += 1
    return _convolution(conv, whole, None)


def _convolution(conv: Any, x: Tensor, bias: Tensor | None) -> Tensor:
    """The edges of the picture are left to it, not added to `x`."""
    from torch.nn.functional import conv3d

    columns, _, rows, *_ = conv._padding
    return conv3d(x, conv.weight, bias, conv.stride, (0, rows, columns))


def _rows(x: Tensor) -> Tensor:
    """A row for each pixel: without copying where a convolution on a card has made `x`."""
    return _pixels(x).reshape(-1, x.shape[1]).contiguous()


def _pixels(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 4, 1)


def _video(rows: Tensor, like: Tensor) -> Tensor:
    """Rows as a video of that many frames of that size, without copying."""
    videos, _, *size = like.shape
    return rows.view(videos, *size, -1).permute(0, 4, 1, 2, 3)
