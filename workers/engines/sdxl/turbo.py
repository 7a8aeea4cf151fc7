"""Time saved at the price of other pixels: see `workers.job.Turbo`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from workers.job import Turbo
from workers.references.guide import skipped

if TYPE_CHECKING:
    import torch

    from workers.job import SamplingParams


@contextmanager
def partly(unet: Any, params: SamplingParams) -> Iterator[None]:
    """For one guided job: in some of its steps the denoiser reads the prompt alone, for half of the work. Not while it
    is shown a picture, which is in both halves of its batch."""
    guide, forward = params.guide, unet.forward
    if params.guidance <= 1 or params.turbo.guided == Turbo().guided or (guide and guide.use != "start"):
        yield
        return
    steps = params.steps - (skipped(params.steps, guide.change) if guide else 0)
    unet.forward = _Partly(forward, params.turbo, steps).forward
    try:
        yield
    finally:
        unet.forward = forward


class _Partly:
    def __init__(self, forward: Callable[..., Any], turbo: Turbo, steps: int) -> None:
        self._forward, self._turbo, self._steps = forward, turbo, steps
        self._taken = count()
        self._alone: dict[str, Any] = {}

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, **inputs: Any) -> tuple[torch.Tensor]:
        """What both halves of the batch would be, the negative prompt's first; equal halves have no guidance."""
        half = len(sample) // 2
        if self._turbo.guides(next(self._taken), self._steps):
            return (self._forward(sample, timestep, **inputs)[0],)
        if not self._alone:  # the same tensors in every step: their keys and values are computed once
            added = {name: tensor[half:] for name, tensor in inputs["added_cond_kwargs"].items()}
            self._alone = {"encoder_hidden_states": inputs["encoder_hidden_states"][half:], "added_cond_kwargs": added}
        alone = self._forward(sample[half:], timestep, **{**inputs, **self._alone})[0]
        return (alone.repeat(2, 1, 1, 1),)
