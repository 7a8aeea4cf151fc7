"""What stands between the video model's matrix products, each in as few passes over memory as it can be.

On a card these are kernels of `kernels.py`. Elsewhere, and where a compiler reads them, they are torch's own
operations, which also say what the kernels must give.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from workers.card.kernels import power_of_two, usable
from workers.engines import kernels as shared
from workers.engines.wan import kernels

if TYPE_CHECKING:
    from torch import Tensor

ROWS, WARPS = 4, 2
"""Tokens that one program works on, and its groups of threads."""
PRECISE = 8192
"""Tokens up to which sums inside a block stay in float32: they do not leave the card's cache. Those of clips would take
1 % of a step."""
TILE = 4096
"""Numbers of an image that one program works on."""
LEAST = 1e-12
"""As a row's length, so that a row of zeros has a direction."""

Rotary = tuple["Tensor", "Tensor"]
"""Cosine and signed sine, (1, tokens, 1, head width)."""


def add_norm(
    x: Tensor, y: Tensor | None, gate: Tensor | None, factor: Tensor, summand: Tensor, *, one: int, eps: float
) -> tuple[Tensor, Tensor]:
    """`x` (samples, tokens, width) plus `y` times `gate`, and the layer norm of that times (`one` + `factor`) plus
    `summand`. Gate, factor and summand are (samples or 1, 1, width) or (width,), in float32. The sum may be in float32
    too; the norm is of `y`'s type."""
    from torch.nn.functional import layer_norm

    if _own(x):
        return _add_norm_on_card(x, y, gate, factor, summand, one, eps)
    total = x.float() if y is None else _sum(x, y, gate)
    normed = layer_norm(total, total.shape[-1:], eps=eps) * (one + factor) + summand
    return total, normed.type_as(x if y is None else y)


def add(x: Tensor, y: Tensor, gate: Tensor | None) -> Tensor:
    """`x` plus `y` times `gate`, in `y`'s type."""
    if _own(x):
        return _add_norm_on_card(x, y, gate, None, None, 0, 0.0)[0]
    return _sum(x, y, gate).type_as(y)


def heads(x: Tensor, norm: Any, count: int, rotary: Rotary | None = None) -> Tensor:
    """The root mean square norm of `x` (samples, tokens, width) as (samples, tokens, `count` heads, head width), turned
    by `rotary`. Rows of `x` may lie apart."""
    if not _own(x):
        split: Tensor = norm(x).unflatten(2, (count, -1))
        return split if rotary is None else rotated(split, *rotary)
    samples, tokens, width = x.shape
    _check(x.stride(2) == 1 and x.stride(0) == tokens * x.stride(1))
    cosine, sine = (x, x) if rotary is None else (part.contiguous() for part in rotary)
    out = x.new_empty(samples, tokens, count, width // count)
    kernels.heads()[(-(-tokens // ROWS), samples)](
        x, norm.weight, cosine, sine, out, x.stride(1), tokens, norm.eps,
        width, width // count, power_of_two(width), ROWS, rotary is not None, num_warps=WARPS,
    )  # fmt: skip
    return out


def rotated(x: Tensor, cosine: Tensor, signed_sine: Tensor) -> Tensor:
    """Each pair of neighbours turned by its angle."""
    swapped = x.view(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return (x * cosine + swapped * signed_sine).type_as(x)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Linear layer and GELU (tanh): cuBLAS computes both at once."""
    import torch
    import torch.nn.functional as F

    if not x.is_cuda:
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")
    flat: Tensor = torch._addmm_activation(bias, x.flatten(0, -2), weight.t(), use_gelu=True)
    return flat.view(*x.shape[:-1], -1)


def norm_silu(rows: Tensor, gamma: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """SiLU of `rows` (rows, width), plus `bias` (width), each brought to the length sqrt(width) and multiplied by
    `gamma` (width); into `out` if it is given."""
    import torch.nn.functional as F

    if _own(rows):
        return _norm_silu_on_card(rows, gamma, bias, out)
    moved = rows.float() if bias is None else rows.float() + bias
    made = F.silu(F.normalize(moved, dim=1).to(rows.dtype) * len(gamma) ** 0.5 * gamma)
    return made if out is None else out.copy_(made)


def add_bias_(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """`x` plus `y` plus `bias` (width), of rows, written into `x`."""
    if not _own(x):
        return x.add_(y).add_(bias)
    _check(x.is_contiguous() and y.is_contiguous())
    block = power_of_two(x.shape[1])
    high = _high(block)
    shared.add()[(-(-len(x) // high), 1)](x, y, bias, *x.shape, high, block, num_warps=4)
    return x


def _sum(x: Tensor, y: Tensor, gate: Tensor | None) -> Tensor:
    return x.float() + (y if gate is None else y * gate)


def _add_norm_on_card(
    x: Tensor,
    y: Tensor | None,
    gate: Tensor | None,
    factor: Tensor | None,
    summand: Tensor | None,
    one: int,
    eps: float,
) -> tuple[Tensor, Tensor]:
    import torch

    samples, tokens, width = x.shape
    _check(x.stride()[1:] == (width, 1) and (y is None or y.is_contiguous()))
    precise = factor is not None and samples * tokens <= PRECISE
    total = x if y is None else torch.empty_like(y, dtype=torch.float32 if precise else y.dtype)
    normed = x if factor is None else torch.empty_like(total if y is None else y)
    kernels.add_norm()[(-(-tokens // ROWS), samples)](
        x, x if y is None else y, x if gate is None else gate, x if factor is None else factor,
        x if summand is None else summand, total, normed, x.stride(0), tokens, _stride(gate), _stride(factor), eps,
        width, power_of_two(width), ROWS, y is not None, gate is not None, factor is not None, one, num_warps=WARPS,
    )  # fmt: skip
    return total, normed


def _norm_silu_on_card(rows: Tensor, gamma: Tensor, bias: Tensor | None, out: Tensor | None) -> Tensor:
    import torch

    out, (count, width) = torch.empty_like(rows) if out is None else out, rows.shape
    _check(rows.is_contiguous() and out.is_contiguous() and out.shape == rows.shape)
    block = power_of_two(width)
    high = _high(block)
    kernels.norm_silu()[(-(-count // high),)](
        rows, gamma if bias is None else bias, gamma, out, count, LEAST,
        width**0.5, width, high, block, bias is not None, num_warps=4,
    )  # fmt: skip
    return out


def _high(block: int) -> int:
    """Rows of so many numbers that one program works on."""
    return max(1, TILE // block)


def _own(x: Tensor) -> bool:
    import torch

    return x.is_cuda and not torch.compiler.is_compiling() and _usable(x.device.index)


@cache
def _usable(card: int) -> bool:
    import torch

    rows, gamma = torch.ones((2, 1, 8), device=card)
    return usable(lambda: _norm_silu_on_card(rows, gamma[0], None, None))


def _stride(by_sample: Tensor | None) -> int:
    """From one sample's row to the next one's."""
    return by_sample.stride(0) if by_sample is not None and by_sample.ndim == 3 and len(by_sample) > 1 else 0


def _check(layout: bool) -> None:
    """The kernels count addresses themselves: another layout would give other pictures and no error."""
    if not layout:
        raise ValueError("The video model's kernels need rows that lie in memory one after the other.")
