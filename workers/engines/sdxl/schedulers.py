"""The solvers that a job may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workers.engines import rehearsal
from workers.errors import Rejected
from workers.references.guide import skipped

if TYPE_CHECKING:
    import torch

SOLVERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "unipc": ("UniPCMultistepScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "euler": ("EulerDiscreteScheduler", {}),
}
"""Solver -> diffusers class and what differs from the schedule in the checkpoint's configuration."""


PLANS = 32
"""Numbers of steps whose plans are kept."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A solver's way through some steps: what scales the first latents and each step's input, and each step's weights,
    of the first latents and then of every output so far. On the host."""

    timesteps: torch.Tensor
    first_scale: Any
    scales: Sequence[float]
    weights: torch.Tensor


class Solvers:
    """The solvers for a checkpoint's noise schedule."""

    def __init__(self, schedule: Mapping[str, Any]) -> None:
        self.schedule = schedule
        self.plan = lru_cache(maxsize=PLANS)(self._plan)

    def make(self, solver: str) -> LinearScheduler:
        """A fresh one: it keeps the past model outputs of its job, so no two jobs may share one."""
        if solver not in SOLVERS:
            raise Rejected(f"The solver must be one of {', '.join(SOLVERS)}.", field="sample_solver")
        return LinearScheduler(self, solver)

    def theirs(self, solver: str, steps: int, left_out: int = 0) -> Any:
        """The library's own, set to begin behind the steps that are left out."""
        import diffusers

        name, changes = SOLVERS[solver]
        scheduler = getattr(diffusers, name).from_config(self.schedule, **changes)
        scheduler.set_timesteps(steps, device="cpu")
        if left_out:
            scheduler.set_begin_index(left_out)
        return scheduler

    def _plan(self, solver: str, steps: int, left_out: int) -> Plan:
        scheduler = self.theirs(solver, steps, left_out)
        timesteps, scales = scheduler.timesteps[left_out:], []
        first_scale = 1.0 if left_out else scheduler.init_noise_sigma

        def note_scale(unit: torch.Tensor, time: torch.Tensor) -> None:
            scales.append(float(scheduler.scale_model_input(unit, time)[0, 0]))

        return Plan(timesteps, first_scale, scales, rehearsal.weights(scheduler, timesteps, note_scale))


class LinearScheduler:
    """A scheduler of diffusers whose steps are sums with known weights.

    Each of these solvers gives the next latents as a sum of the first ones and of the model's outputs so far. Which
    weights it gives them, it shows once on the host, working on unit vectors. On the card a step is then one small sum
    in float32, where the solver itself would be a hundred small kernels, some of which the host waits for.
    """

    order = 1

    def __init__(self, solvers: Solvers, solver: str) -> None:
        self._solvers, self._solver = solvers, solver
        self.config = solvers.schedule
        self._plan: Plan
        self._left_out = 0
        self._step = 0
        self._known: torch.Tensor | None = None

    @property
    def init_noise_sigma(self) -> Any:
        return self._plan.first_scale

    def begin(self, given: torch.Tensor, noise: torch.Tensor, steps: int, change: float) -> torch.Tensor:
        """Latents on the way from noise to `given`, and the solver set to start there: see `guide.skipped`."""
        self._left_out = skipped(steps, change)
        theirs = self._solvers.theirs(self._solver, steps, self._left_out)
        latents: torch.Tensor = theirs.add_noise(given, noise, theirs.timesteps[self._left_out :][:1])
        return latents

    def set_timesteps(self, steps: int, device: Any = None) -> None:
        self._plan = self._solvers.plan(self._solver, steps, self._left_out)
        self.timesteps, self._weights = self._plan.timesteps.to(device), self._plan.weights.to(device)

    def scale_model_input(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return latents * self._plan.scales[self._step]

    def step(
        self, output: torch.Tensor, timestep: torch.Tensor, latents: torch.Tensor, return_dict: bool = True
    ) -> tuple[torch.Tensor]:
        """The latents after this step, as the one element of a tuple."""
        if self._known is None:
            self._known = latents.new_zeros((1 + len(self.timesteps), *latents.shape))
            self._known[0] = latents
        self._step += 1
        self._known[self._step] = output
        known = self._known[: self._step + 1].flatten(1).float()
        weights = self._weights[self._step - 1, : self._step + 1]
        return ((weights @ known).view(latents.shape).to(latents.dtype),)
