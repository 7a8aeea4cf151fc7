"""What a solver does, shown once on unit vectors: each of its steps is a sum with known weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def weights(
    scheduler: Any, timesteps: Tensor, before_step: Callable[[Tensor, Tensor], object] = lambda unit, time: None
) -> Tensor:
    """(steps, steps + 1) in float32: what the first latents and each output of the model count for after each step.

    For schedulers of diffusers, whose timesteps and beginning are set: these are linear and draw no noise of their own.
    `before_step` gets a unit vector and the time.
    """
    import torch

    units = torch.eye(len(timesteps) + 1, dtype=torch.float64).unsqueeze(1)
    latents, rows = units[0], []
    for unit, time in zip(units[1:], timesteps, strict=True):
        before_step(units[0], time)
        latents = scheduler.step(unit, time, latents, return_dict=False)[0]
        rows.append(latents[0])
    return torch.stack(rows).float()
