"""The solvers that a job may name, each made anew from the checkpoint's noise schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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


def make(solver: str, schedule: Mapping[str, Any]) -> LinearScheduler:
    """A fresh scheduler: it keeps the past model outputs of its job, so no two jobs may share one."""
    import diffusers

    if solver not in SOLVERS:
        raise Rejected(f"The solver must be one of {', '.join(SOLVERS)}.", field="sample_solver")
    name, changes = SOLVERS[solver]
    return LinearScheduler(getattr(diffusers, name).from_config(schedule, **changes))


class LinearScheduler:
    """A scheduler of diffusers whose steps are sums with known weights.

    Each of these solvers gives the next latents as a sum of the first ones and of the model's outputs so far. Which
    weights it gives them, it shows once per job on the host, working on unit vectors. On the card a step is then one
    small sum in float32, where the solver itself would be a hundred small kernels, some of which the host waits for.
    """

    order = 1

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.config = scheduler.config
        self._skipped: int | None = None
        self._step = 0
        self._known: torch.Tensor | None = None

    @property
    def init_noise_sigma(self) -> Any:
        return self._scheduler.init_noise_sigma if self._skipped is None else 1.0

    def begin(self, given: torch.Tensor, noise: torch.Tensor, steps: int, change: float) -> torch.Tensor:
        """Latents on the way from noise to `given`, and the solver set to start there: see `guide.skipped`."""
        self._skipped = skipped(steps, change)
        self._scheduler.set_timesteps(steps, device="cpu")
        self._scheduler.set_begin_index(self._skipped)
        first = self._scheduler.timesteps[self._skipped :][:1]
        latents: torch.Tensor = self._scheduler.add_noise(given, noise, first)
        return latents

    def set_timesteps(self, steps: int, device: Any = None) -> None:
        self._scheduler.set_timesteps(steps, device="cpu")
        if self._skipped is not None:
            self._scheduler.set_begin_index(self._skipped)
        self.timesteps = self._scheduler.timesteps[self._skipped or 0 :].to(device)
        scales, weights = _rehearsed(self._scheduler, self.timesteps.cpu())
        self._scales, self._weights = scales, weights.to(device)

    def scale_model_input(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return latents * self._scales[self._step]

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


def _rehearsed(scheduler: Any, timesteps: torch.Tensor) -> tuple[list[float], torch.Tensor]:
    """By what each step scales its input, and its weights: of the first latents, then of each output so far."""
    import torch

    units = torch.eye(1 + len(timesteps), dtype=torch.float64)
    latents, scales, weights = units[:1], [], []
    for i, timestep in enumerate(timesteps):
        scales.append(float(scheduler.scale_model_input(units[:1], timestep)[0, 0]))
        latents = scheduler.step(units[i + 1 : i + 2], timestep, latents, return_dict=False)[0]
        weights.append(latents[0])
    return scales, torch.stack(weights).float()
