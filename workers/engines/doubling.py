"""Doubling of pixels and a 3x3 convolution as one transposed 4x4 convolution with sums of the same weights: four ninths
of the work, and no doubled image is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def doubling(weight: Tensor) -> Tensor:
    """(out, in, 3, 3) -> (in, out, 4, 4), for a stride of 2 and a padding of 1. Of the doubled pixels, which of the
    three weights meets which."""
    import torch

    meets = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.float32)
    doubled = torch.einsum("ak,oikl,bl->ioab", meets, weight.float(), meets)
    return doubled.to(weight.dtype, memory_format=torch.channels_last)
