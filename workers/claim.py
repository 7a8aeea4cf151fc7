"""What the queue says: claims, beats and their replies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Claim:
    """One job in our hands. `attempt` counts from 1; `crashes` counts workers that died holding it.

    `fence` rises with every claim of the queue, so a receiver can refuse what is older. `result` is what an
    earlier claim remembered for this job: a record written by `remember`, with its key `delivered`. `asked` is when the
    claim was sent, on the monotonic clock: its lease has lasted no longer than since then.
    """

    token: str
    body: str
    attempt: int
    crashes: int
    fence: int
    result: dict[str, Any] | None = None
    asked: float = -math.inf


@dataclass(frozen=True, slots=True)
class ClaimReply:
    """The answer of one claim: a job or none, and what the queue looks like.

    `oldest` is when the job was queued that waits longest, as the epoch in seconds, None where none does or it does not
    say. `next_expiry` is the time in seconds until the next lease or parked claim runs out, None when there is none.
    `withdrawn` are the jobs that this claim dropped because their users had cancelled them. A paused queue gives none.
    """

    claim: Claim | None
    waiting: int
    in_flight: int
    next_expiry: float | None = None
    withdrawn: tuple[str, ...] = ()
    paused: bool = False
    oldest: float | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life for one claim, with the progress that the outside may read under `progress:{job}`."""

    token: str
    job_id: str | None = None
    progress: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BeatReply:
    """Which of the beaten tokens are no longer ours, and which hold jobs that their users have withdrawn.

    `waiting` and `oldest` as in a claim's reply, None where nothing was asked.
    """

    lost: frozenset[str] = field(default_factory=frozenset)
    cancelled: frozenset[str] = field(default_factory=frozenset)
    waiting: int | None = None
    oldest: float | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """A queue as an answer showed it; `at` is when that was asked for, on the monotonic clock."""

    waiting: int
    oldest: float | None
    at: float


@dataclass(frozen=True, slots=True)
class DeadEntry:
    """A job that was given up. `id` names the entry, `at` is the epoch in seconds."""

    id: str
    job_id: str | None
    reason: str
    body: str
    at: float
