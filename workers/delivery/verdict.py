"""What the receiver's answer to a callback means, and when to try again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import Literal

Meaning = Literal["accepted", "retry", "wait_for_link", "gone", "mismatch", "denied", "refused", "stop"]

SCHEDULE = (5.0, 30.0, 120.0, 300.0, 1800.0, 7200.0, 14400.0, 21600.0, 28800.0)
"""Seconds after each failure: 5 s to 8 h. Their sum stays below the 24 h for which a result is remembered."""

PARK_ABOVE = 30.0
"""A longer wait than this is spent parked in the queue, not in a worker."""

REPEAT_COMPLETED_AFTER = 10.0
"""Rows of a batch may appear after their callback: a repeat then fills them."""

_uniform = SystemRandom().uniform


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of one answer. `reason` is fit for logs.

    accepted: 2xx. retry: no useful answer. wait_for_link: the browser has not linked the row to the job yet.
    gone: there is no such job. mismatch: the receiver speaks another dialect. denied: it does not know our key or
    signature. refused: any other refusal. stop: it wants to hear no more.

    `tries` is how many callbacks in all are worth sending, None for as many as the schedule has.
    `alarm` marks what only an operator can heal. `retry_after` is the receiver's wish in seconds.
    """

    meaning: Meaning
    reason: str
    tries: int | None = None
    alarm: bool = False
    retry_after: float | None = None

    @property
    def accepted(self) -> bool:
        return self.meaning == "accepted"


def jittered(seconds: float) -> float:
    """Up to a fifth longer, so that those who failed together do not come back together."""
    return seconds * _uniform(1.0, 1.2)


def next_delay(
    failures: int, verdict: Verdict | None = None, *, uniform: Callable[[float, float], float] = _uniform
) -> float | None:
    """Seconds to wait after so many failures, None to give up. Jitter only shortens, by a fifth at most."""
    tries = verdict.tries if verdict is not None and verdict.tries is not None else len(SCHEDULE) + 1
    if failures <= 0:
        return 0.0
    if failures >= min(tries, len(SCHEDULE) + 1):
        return None
    wish = verdict.retry_after if verdict is not None else None
    return max(SCHEDULE[failures - 1] * uniform(0.8, 1.0), wish or 0.0)
