"""Triton kernels for what stands between SDXL's matrix products: norms, gates and sums in one pass over memory each.

Images lie in memory with their channels last, so a kernel sees rows of channels, one row per pixel or token. Values
are summed in float32 whatever the tensors hold. Each kernel is built by a function, because Triton is imported only
where there is a card. What a kernel is compiled for depends on channel counts alone: an unseen picture size compiles
nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def moments() -> Any:
    """Mean and sum of squared distances to it, of every channel in every chunk of `ROWS` pixels.

    The image may be one part of several along the channels: its first channel is the `first` of `ALL`.
    """
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["pixels", "chunks"])
    def moments_kernel(
        x, mean, square, first, pixels, chunks,
        C: tl.constexpr, ALL: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        image, chunk = (tl.program_id(0) // chunks).to(tl.int64), tl.program_id(0) % chunks
        row, channel = chunk * ROWS + tl.arange(0, ROWS), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = (row < pixels)[:, None] & (channel < C)[None, :]
        offset = (image * pixels + row)[:, None] * C + channel[None, :]
        value = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
        average = tl.sum(value, 0) / tl.minimum(ROWS, pixels - chunk * ROWS)
        distance = tl.where(inside, value - average[None, :], 0.0)
        place = (image * chunks + chunk) * ALL + first + channel
        tl.store(mean + place, average, mask=channel < C)
        tl.store(square + place, tl.sum(distance * distance, 0), mask=channel < C)

    return moments_kernel


@cache
def affine() -> Any:
    """The moments of a group and its norm's weights become one factor and one summand per image and channel.

    `shift` is added to the channels before the norm without ever being written to the image.
    """
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["pixels", "chunks", "shift_stride"])
    def affine_kernel(
        mean, square, shift, weight, bias, factor, summand, pixels, chunks, shift_stride, eps,
        C: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        image, lane = tl.program_id(0), tl.arange(0, BLOCK)
        channel, inside = tl.program_id(1) * WIDTH + lane, lane < WIDTH
        added = tl.load(shift + image * shift_stride + channel, mask=inside, other=0.0).to(tl.float32)
        total = tl.zeros([STEP, BLOCK], tl.float32)
        for start in range(0, chunks, STEP):
            chunk = start + tl.arange(0, STEP)
            place = (image * chunks + chunk)[:, None] * C + channel[None, :]
            known = (chunk < chunks)[:, None] & inside[None, :]
            rows = tl.minimum(ROWS, pixels - chunk * ROWS)[:, None]
            total += tl.where(known, rows * (tl.load(mean + place, mask=known, other=0.0) + added[None, :]), 0.0)
        size = pixels * WIDTH
        average = tl.sum(tl.sum(total, 1), 0) / size
        total = tl.zeros([STEP, BLOCK], tl.float32)
        for start in range(0, chunks, STEP):
            chunk = start + tl.arange(0, STEP)
            place = (image * chunks + chunk)[:, None] * C + channel[None, :]
            known = (chunk < chunks)[:, None] & inside[None, :]
            rows = tl.minimum(ROWS, pixels - chunk * ROWS)[:, None]
            distance = tl.load(mean + place, mask=known, other=0.0) + added[None, :] - average
            squares = tl.load(square + place, mask=known, other=0.0)
            total += tl.where(known, squares + rows * distance * distance, 0.0)
        scale = tl.rsqrt(tl.sum(tl.sum(total, 1), 0) / size + eps)
        scale *= tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
        offset = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32) + (added - average) * scale
        tl.store(factor + image * C + channel, scale, mask=inside)
        tl.store(summand + image * C + channel, offset, mask=inside)

    return affine_kernel


@cache
def normalize() -> Any:
    """x * factor + summand, then SiLU where asked for; into channels `first` and up of the `ALL` of y."""
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["pixels", "chunks"])
    def normalize_kernel(
        x, factor, summand, y, first, pixels, chunks,
        C: tl.constexpr, ALL: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, SILU: tl.constexpr,
    ):  # fmt: skip
        image, chunk = (tl.program_id(0) // chunks).to(tl.int64), tl.program_id(0) % chunks
        row, channel = chunk * ROWS + tl.arange(0, ROWS), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside, row = (row < pixels)[:, None] & (channel < C)[None, :], (image * pixels + row)[:, None]
        scale = tl.load(factor + image * ALL + first + channel, mask=channel < C, other=0.0)
        added = tl.load(summand + image * ALL + first + channel, mask=channel < C, other=0.0)
        value = tl.load(x + row * C + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        value = value * scale[None, :] + added[None, :]
        if SILU:
            value = value * tl.sigmoid(value)
        tl.store(y + row * ALL + first + channel[None, :], value.to(y.dtype.element_ty), mask=inside)

    return normalize_kernel


@cache
def add_norm() -> Any:
    """x += y, and the layer norm of the sum; one row per program. `ADD` false: the norm of x alone."""
    import triton
    import triton.language as tl

    @triton.jit
    def add_norm_kernel(x, y, weight, bias, normed, eps, C: tl.constexpr, BLOCK: tl.constexpr, ADD: tl.constexpr):
        channel = tl.arange(0, BLOCK)
        inside, offset = channel < C, tl.program_id(0).to(tl.int64) * C + channel
        value = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
        if ADD:
            value += tl.load(y + offset, mask=inside, other=0.0).to(tl.float32)
            tl.store(x + offset, value.to(x.dtype.element_ty), mask=inside)
            value = value.to(x.dtype.element_ty).to(tl.float32)
        average = tl.sum(value, 0) / C
        distance = tl.where(inside, value - average, 0.0)
        scaled = distance * tl.rsqrt(tl.sum(distance * distance, 0) / C + eps)
        scaled *= tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
        scaled += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
        tl.store(normed + offset, scaled.to(normed.dtype.element_ty), mask=inside)

    return add_norm_kernel


@cache
def gate() -> Any:
    """The first half of a row becomes itself times the GELU of the second half."""
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["rows"])
    def gate_kernel(x, rows, C: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside, offset = (row < rows)[:, None] & (channel < C)[None, :], row[:, None] * (2 * C) + channel[None, :]
        value = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
        gate = tl.load(x + offset + C, mask=inside, other=0.0).to(tl.float32)
        value *= 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
        tl.store(x + offset, value.to(x.dtype.element_ty), mask=inside)

    return gate_kernel
