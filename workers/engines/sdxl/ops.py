"""What stands between SDXL's matrix products, each in as few passes over memory as it can be.

On a card these are kernels of `kernels.py`; elsewhere they are torch's own operations, which also say what the
kernels must give. Images are (images, channels, height, width) with channels last in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workers.card.kernels import power_of_two
from workers.engines.kernels import add
from workers.engines.sdxl import kernels

if TYPE_CHECKING:
    import torch

ROWS = 256
"""Pixels of which one program takes the moments; together with `LANES` channels they stay in its registers."""
LANES = 32
TILE = (32, 64)
"""Rows and channels that one program of a pass without sums works on."""
CHUNKS = (64, 512)
"""How many chunks' moments are brought together at once, for images up to that many chunks and for larger ones."""


def group_norm(
    parts: Sequence[torch.Tensor], norm: Any, shift: torch.Tensor | None = None, *, silu: bool = True
) -> torch.Tensor:
    """SiLU of the group norm of images that lie side by side along their channels.

    `shift`, (1 or images, channels), is added before the norm.
    """
    if _own(parts[0]):
        return _group_norm_on_card(parts, norm, shift, silu)
    import torch

    x = torch.cat(list(parts), dim=1)
    moved = x if shift is None else x + shift[:, :, None, None]
    normed = torch.nn.functional.group_norm(moved, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return torch.nn.functional.silu(normed) if silu else normed


def add_(x: torch.Tensor, y: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`x` plus `y` plus `bias` (channels), written into `x`. Both have channels last in memory."""
    if not _own(x):
        return x.add_(y).add_(bias[:, None, None])
    _check_layout(x, y)
    width = x.shape[1]
    rows = x.numel() // width
    add()[_grid(rows, width)](x, y, bias, rows, width, *TILE, num_warps=4)
    return x


def add_norm(x: torch.Tensor, y: torch.Tensor | None, norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """`x` (images, tokens, channels) with `y` added to it in place, and the layer norm of that."""
    import torch

    if not _own(x):
        summed = x if y is None else x.add_(y)
        return summed, norm(summed)
    normed, width = torch.empty_like(x), x.shape[-1]
    kernels.add_norm()[(x.numel() // width,)](
        x, x if y is None else y, norm.weight, norm.bias, normed, norm.eps,
        width, power_of_two(width), y is not None, num_warps=4,
    )  # fmt: skip
    return x, normed


def gate(x: torch.Tensor) -> torch.Tensor:
    """(rows, 2 * channels) -> (rows, channels): the first half times the GELU of the second, in place of the first."""
    import torch

    value, gates = x.chunk(2, dim=-1)
    if not _own(x):
        return value.mul_(torch.nn.functional.gelu(gates))
    kernels.gate()[_grid(*value.shape)](x, *value.shape, *TILE, num_warps=4)
    return value


def _own(x: torch.Tensor) -> bool:
    return x.is_cuda


def _group_norm_on_card(
    parts: Sequence[torch.Tensor], norm: Any, shift: torch.Tensor | None, silu: bool
) -> torch.Tensor:
    import torch

    _check_layout(*parts)
    x, width = parts[0], norm.num_channels
    images, pixels = len(x), x.shape[2] * x.shape[3]
    chunks, tiles = -(-pixels // ROWS), -(-pixels // TILE[0])
    mean, square = x.new_empty((2, images, chunks, width), dtype=torch.float32)
    for part, first in _placed(parts):
        kernels.moments()[(images * chunks, -(-part.shape[1] // LANES))](
            part, mean, square, first, pixels, chunks, part.shape[1], width, ROWS, LANES, num_warps=4
        )
    shift = x.new_zeros((1, width)) if shift is None else shift
    factor, summand = x.new_empty((2, images, width), dtype=torch.float32)
    group = width // norm.num_groups
    kernels.affine()[(images, norm.num_groups)](
        mean, square, shift, norm.weight, norm.bias, factor, summand,
        pixels, chunks, 0 if len(shift) == 1 else width, norm.eps,
        width, group, ROWS, CHUNKS[chunks > CHUNKS[0]], power_of_two(group), num_warps=4,
    )  # fmt: skip
    shape = (images, width, *x.shape[2:])
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for part, first in _placed(parts):
        kernels.normalize()[(images * tiles, -(-part.shape[1] // TILE[1]))](
            part, factor, summand, y, first, pixels, tiles, part.shape[1], width, *TILE, silu, num_warps=4
        )
    return y


def _placed(parts: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, int]]:
    """Each part with its first channel's place among all."""
    ends = itertools.accumulate(part.shape[1] for part in parts)
    return [(part, end - part.shape[1]) for part, end in zip(parts, ends, strict=True)]


def _check_layout(*images: torch.Tensor) -> None:
    """The kernels count addresses themselves: another layout would give another picture and no error."""
    import torch

    assert all(image.is_contiguous(memory_format=torch.channels_last) for image in images)


def _grid(rows: int, width: int) -> tuple[int, int]:
    return -(-rows // TILE[0]), -(-width // TILE[1])
