"""A scheduler's steps as one table of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.engines import rehearsal

if TYPE_CHECKING:
    from torch import Tensor


class Solved:
    """A scheduler solved in advance: latents after a step are a weighted sum of the noise and the velocities so far.

    The scheduler itself reads numbers back from the card at every step and runs dozens of small kernels; this is one
    product.
    """

    def __init__(self, table: Table, noise: Tensor) -> None:
        import torch

        self.timesteps, self._weights = table.timesteps, table.weights
        self._terms = torch.zeros(len(self.timesteps) + 1, *noise.shape, device=noise.device)
        self._terms[0] = noise
        self._done = 0

    def step(self, velocity: Tensor, time: Tensor, latents: Tensor, return_dict: bool) -> tuple[Tensor, ...]:
        import torch

        self._done += 1
        self._terms[self._done] = velocity
        known = self._done + 1
        latents = torch.tensordot(self._weights[self._done - 1, :known], self._terms[:known], dims=1)
        return (latents,)


@dataclass(frozen=True, slots=True)
class Table:
    """`weights` (steps, steps + 1): what noise and each velocity count for after each step."""

    timesteps: Tensor
    weights: Tensor


def solve(scheduler: Any, device: str) -> Table:
    """Of a scheduler whose timesteps and beginning are set."""
    return Table(scheduler.timesteps.to(device), rehearsal.weights(scheduler, scheduler.timesteps).to(device))
