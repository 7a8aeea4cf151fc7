"""What is left to say about a job: the report remembered in the queue, the answer to its callback, and when to try
again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from workers.errors import Rejected
from workers.job import Delivery, Outcome

Answer = Literal["accepted", "retry", "unlinked", "gone", "mismatch", "stop", "refused"]

SCHEDULES: Mapping[Answer, tuple[float, ...]] = {
    "retry": (5.0, 30.0, 120.0, 300.0, 1800.0, 7200.0, 21_600.0, 43_200.0),
    "mismatch": (30.0, 120.0, 300.0, 1800.0, 7200.0, 21_600.0, 43_200.0),
    "unlinked": (2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 120.0, 300.0, 300.0, 600.0, 1800.0),
    "gone": (5.0, 20.0),
    "refused": (5.0, 30.0),
}
"""Seconds between tries by answer, in all less than the 24 h for which a result is remembered. Past its end, or
without a schedule, an answer is final."""
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Verdict:
    """The receiver's answer to one callback.

    accepted: 2xx · retry: no useful answer, `retry_after` is the receiver's wish in seconds · unlinked: the row is
    not linked to the job yet · gone: the job's row does not exist · mismatch: the receiver speaks the other dialect
    or has another key · stop: 410 · refused: any other refusal. `reason` is for the log.
    """

    answer: Answer
    reason: str = ""
    retry_after: float | None = None

    def delay(self, failures: int) -> float | None:
        """Seconds until the next try after this many failed ones, with jitter; None to give up."""
        schedule = SCHEDULES.get(self.answer, ())
        if failures > len(schedule):
            return None
        jitter = random.uniform(1 - JITTER, 1)  # noqa: S311 - spreads load, guards nothing
        return max(schedule[failures - 1] * jitter, self.retry_after or 0.0)


@dataclass(frozen=True, slots=True)
class Report:
    """An outcome on its way to the callback. `failures` counts the tries so far; `accepted` is set when only the
    repetition for late rows is left; `bury` is why the job goes to the dead list once this is said."""

    outcome: Outcome
    user_id: str
    failures: int = 0
    accepted: bool = False
    bury: str | None = None

    @staticmethod
    def of_failure(job_id: str, error: Rejected, job_type: str = "", bury: str | None = None) -> Report:
        """The job failed, with a sentence for its user."""
        outcome = Outcome(job_id, job_type, "failed", error_message=error.sentence, error_type=error.code)
        return Report(outcome, user_id="", bury=bury)

    def record(self) -> dict[str, Any]:
        """As JSON, for `q:result:{job}`."""
        return asdict(self) | {"delivered": False}

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Report:
        """The other way. Raises `KeyError` or `TypeError` for a record that this version did not write."""
        outcome = dict(record["outcome"])
        deliveries = tuple(Delivery(**d | {"size": tuple(d["size"])}) for d in outcome.pop("deliveries"))
        return Report(
            outcome=Outcome(deliveries=deliveries, **outcome),
            user_id=record["user_id"],
            failures=record["failures"],
            accepted=record["accepted"],
            bury=record["bury"],
        )
