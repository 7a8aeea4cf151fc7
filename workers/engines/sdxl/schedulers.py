"""The solvers that a job may name, each made anew from the checkpoint's noise schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.errors import Rejected

SOLVERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "unipc": ("UniPCMultistepScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "euler": ("EulerDiscreteScheduler", {}),
}
"""Solver -> diffusers class and what differs from the schedule in the checkpoint's configuration."""


def make(solver: str, schedule: Mapping[str, Any]) -> Any:
    """A fresh scheduler: it keeps the past model outputs of its job, so no two jobs may share one."""
    import diffusers

    if solver not in SOLVERS:
        raise Rejected(f"The solver must be one of {', '.join(SOLVERS)}.", field="sample_solver")
    name, changes = SOLVERS[solver]
    return getattr(diffusers, name).from_config(schedule, **changes)
