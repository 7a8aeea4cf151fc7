"""The solvers that a job may name, each made anew from the model's own schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.errors import Rejected

SOLVERS: Mapping[str, tuple[str, str]] = {
    "unipc": ("UniPCMultistepScheduler", "flow_shift"),
    "dpm++": ("DPMSolverMultistepScheduler", "flow_shift"),
    "euler": ("FlowMatchEulerDiscreteScheduler", "shift"),
}
"""Solver -> diffusers class, and what it calls the shift of its steps towards the noisy end."""


def make(solver: str, shift: float | None, schedule: Mapping[str, Any]) -> Any:
    """A fresh scheduler: it keeps the past model outputs of its job, so no two jobs may share one.

    `shift` None means the model's own.
    """
    import diffusers

    if solver not in SOLVERS:
        raise Rejected(f"The solver must be one of {', '.join(SOLVERS)}.", field="sample_solver")
    name, shift_name = SOLVERS[solver]
    wanted = schedule["flow_shift"] if shift is None else shift
    return getattr(diffusers, name).from_config(schedule, **{shift_name: wanted})
