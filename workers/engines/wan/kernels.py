"""Triton kernels for what stands between the video model's matrix products, each in one pass over memory.

A row is what one token, or one pixel, has in all channels. Values are summed in float32 whatever the tensors hold. Each
kernel is built by a function, because Triton is imported only where there is a card. What a kernel is compiled for
depends on channel counts alone: an unseen size or length compiles nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def add_norm() -> Any:
    """x + y * gate, and the layer norm of that * (`ONE` + factor) + summand. Without `ADD` it is the norm of x alone,
    without `NORM` the sum alone.

    Gate, factor and summand hold a row for each sample of so many tokens, or one for all: then their stride is 0, as
    that of x is where all samples are the same. A program reads them once, for `ROWS` tokens of a sample.
    """
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["x_stride", "tokens", "gate_stride", "factor_stride"])
    def add_norm_kernel(
        x, y, gate, factor, summand, total, normed, x_stride, tokens, gate_stride, factor_stride, eps,
        C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, ADD: tl.constexpr, GATE: tl.constexpr,
        NORM: tl.constexpr, ONE: tl.constexpr,
    ):  # fmt: skip
        first, sample, channel = tl.program_id(0) * ROWS, tl.program_id(1).to(tl.int64), tl.arange(0, BLOCK)
        known = channel < C
        if GATE:
            share = tl.load(gate + sample * gate_stride + channel, mask=known, other=0.0).to(tl.float32)
        if NORM:
            scale = ONE + tl.load(factor + sample * factor_stride + channel, mask=known, other=0.0).to(tl.float32)
            shift = tl.load(summand + sample * factor_stride + channel, mask=known, other=0.0).to(tl.float32)
        for row in range(first, first + ROWS):
            inside, offset = known & (row < tokens), (sample * tokens + row) * C + channel
            value = tl.load(x + sample * x_stride + row * C + channel, mask=inside, other=0.0).to(tl.float32)
            if ADD:
                added = tl.load(y + offset, mask=inside, other=0.0).to(tl.float32)
                value += added * share if GATE else added
                tl.store(total + offset, value.to(total.dtype.element_ty), mask=inside)
            if NORM:
                distance = tl.where(inside, value - tl.sum(value, 0) / C, 0.0)
                value = distance * tl.rsqrt(tl.sum(distance * distance, 0) / C + eps) * scale + shift
                tl.store(normed + offset, value.to(normed.dtype.element_ty), mask=inside)

    return add_norm_kernel


@cache
def heads() -> Any:
    """The root mean square norm of each row and, with `TURN`, its pairs of neighbours turned by their angles in a head
    of `D` channels; `ROWS` tokens of a sample per program. Rows of x lie `stride` apart."""
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["stride", "tokens"])
    def heads_kernel(
        x, weight, cosine, signed_sine, y, stride, tokens, eps,
        C: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, TURN: tl.constexpr,
    ):  # fmt: skip
        first, sample, channel = tl.program_id(0) * ROWS, tl.program_id(1).to(tl.int64), tl.arange(0, BLOCK)
        known = channel < C
        factor = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32)
        for row in range(first, first + ROWS):
            inside, place = known & (row < tokens), sample * tokens + row
            value = tl.load(x + place * stride + channel, mask=inside, other=0.0).to(tl.float32)
            value *= tl.rsqrt(tl.sum(value * value, 0) / C + eps) * factor
            if TURN:
                angle = row * D + channel % D
                even, odd = tl.split(tl.reshape(value, (BLOCK // 2, 2)))
                neighbour = tl.reshape(tl.join(odd, even), (BLOCK,))
                value *= tl.load(cosine + angle, mask=inside, other=0.0).to(tl.float32)
                value += neighbour * tl.load(signed_sine + angle, mask=inside, other=0.0).to(tl.float32)
            tl.store(y + place * C + channel, value.to(y.dtype.element_ty), mask=inside)

    return heads_kernel


@cache
def norm_silu() -> Any:
    """SiLU of rows, plus `bias` if there is one, of length `LENGTH`, each channel times gamma; `ROWS` per program."""
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["rows"])
    def norm_silu_kernel(
        x, bias, gamma, y, rows, eps,
        LENGTH: tl.constexpr, C: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, BIAS: tl.constexpr,
    ):  # fmt: skip
        row, channel = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
        inside, offset = (row < rows)[:, None] & (channel < C)[None, :], row[:, None] * C + channel[None, :]
        value = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
        if BIAS:
            value += tl.load(bias + channel, mask=channel < C, other=0.0).to(tl.float32)[None, :]
        scale = LENGTH / tl.maximum(tl.sqrt(tl.sum(value * value, 1)), eps)
        value *= scale[:, None] * tl.load(gamma + channel, mask=channel < C, other=0.0).to(tl.float32)[None, :]
        value *= tl.sigmoid(value)
        tl.store(y + offset, value.to(y.dtype.element_ty), mask=inside)

    return norm_silu_kernel
