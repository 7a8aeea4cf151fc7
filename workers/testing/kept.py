"""A job as the queue in memory keeps it, and what its body says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from workers import payload
from workers.errors import Rejected


@dataclass(frozen=True, slots=True)
class Waiting:
    body: str
    attempts: int = 0
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """A claim until `ends`. Nobody holds it while `fence` is 0."""

    job: Waiting
    fence: int
    ends: float


def job_of(body: str) -> str:
    """The id in a body, "" where there is none."""
    found = _field(body, "id")
    return found if isinstance(found, str) else ""


def made_at(body: str) -> float | None:
    """When a job says that it was queued, as the epoch in seconds."""
    try:
        return datetime.fromisoformat(str(_field(body, "created_at"))).timestamp()
    except ValueError:
        return None


def _field(body: str, name: str) -> object:
    try:
        return payload.decode(body).get(name)
    except Rejected:
        return None
