"""Which implementation of attention this card runs fastest. Libraries guess it by the card's generation; we try."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Literal

from workers.card import gpu
from workers.logs import log

RUNS = 5
BACKENDS = ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION")
LAST = "MATH"
Shape = tuple[int, int, int, int]
"""Batch, heads, tokens, width of a head."""
Measure = Callable[[str], float | None]
"""A backend's name in torch -> its seconds, None where it cannot do the work."""

_chosen = ExitStack()
"""Holds the order for as long as the process lives."""


def choose(measure: Measure) -> None:
    """From now on torch asks the fastest first, in this process, and never one that cannot do the work."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    taken = {name: seconds for name in BACKENDS if (seconds := measure(name)) is not None}
    order = sorted(taken, key=lambda name: taken[name])
    _chosen.close()
    _chosen.enter_context(sdpa_kernel([getattr(SDPBackend, name) for name in (*order, LAST)], set_priority=True))
    log.info("attention chosen", order=order, milliseconds=[round(1000 * taken[name], 2) for name in order])


def on_this_card(shape: Shape, half: Literal["float16", "bfloat16"], device: str) -> Measure:
    """The median of a few runs over random numbers."""

    def measure(name: str) -> float | None:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.nn.functional import scaled_dot_product_attention

        query, key, value = torch.randn(3, *shape, dtype=gpu.dtype_for(device, half), device=device)
        try:
            with sdpa_kernel(getattr(SDPBackend, name)):
                return median(gpu.seconds(lambda: scaled_dot_product_attention(query, key, value)) for _ in range(RUNS))
        except RuntimeError:
            return None

    return measure
