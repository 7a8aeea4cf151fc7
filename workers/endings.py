"""How a claimed job ends that does not come to delivery: each way has its own way home."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from workers import crash
from workers.claim import Claim
from workers.delivery.dispatch import Dispatch
from workers.delivery.report import Report
from workers.delivery.verdict import jittered
from workers.errors import Rejected, Unreachable
from workers.logs import describe, log
from workers.watch import Watch

MAX_ATTEMPTS = 3
RETRY_DELAYS = (10.0, 60.0, 300.0)
GAVE_UP = "The job failed several times and was given up. Please try again."
KEPT = frozenset({"unreadable", "failed"})
"""Codes of a rejection whose message goes to the dead list, for an operator to look at."""


class Queue(Protocol):
    def release(self, token: str, *, counted: bool) -> bool: ...
    def park(self, token: str, delay: float, *, counted: bool) -> bool: ...
    def ack(self, token: str, job_id: str | None) -> bool: ...
    def bury(self, token: str, reason: str, job_id: str | None = None) -> bool: ...


@dataclass(frozen=True, slots=True)
class Case:
    """A claim, and what is known by now of the job it is for."""

    claim: Claim
    job_id: str | None
    job_type: str | None


class Endings:
    """What says True has handed the claim to the delivery thread; any other claim has ended here."""

    def __init__(self, queue: Queue, dispatch: Dispatch) -> None:
        self._queue, self._dispatch = queue, dispatch

    def release(self, case: Case, *, counted: bool) -> None:
        """Back to the head of the queue."""
        self._settle("released", case, lambda: self._queue.release(case.claim.token, counted=counted))

    def withdraw(self, case: Case) -> bool:
        """An earlier claim may have left files and objects; of a first one there is nothing yet."""
        if case.claim.attempt == 1 or case.job_id is None:
            self._settle("cancelled", case, lambda: self._queue.ack(case.claim.token, case.job_id))
            return False
        log.info("cancelled", job=case.job_id, attempt=case.claim.attempt)
        self._dispatch.withdraw(case.claim, case.job_id, case.job_type or "", Watch())
        return True

    def repeat(self, case: Case, record: Mapping[str, Any]) -> bool:
        """An earlier claim ended this job: at most its callback is still to be sent."""
        if record.get("delivered"):
            self._settle("already delivered", case, lambda: self._queue.ack(case.claim.token, case.job_id))
            return False
        crash.point("recalled")
        self._dispatch.report(case.claim, Report.from_record(record), Watch())
        return True

    def reject(self, case: Case, error: Rejected) -> bool:
        """A sentence for the user where the job has an id, the dead list where an operator should look."""
        bury = str(error) if error.code in KEPT else None
        log.warning("rejected", job=case.job_id, type=case.job_type, field=error.field, reason=error.sentence)
        if case.job_id is None:
            self._settle("buried", case, lambda: self._queue.bury(case.claim.token, str(error)))
            return False
        crash.point("rejected")
        report = Report.of_failure(case.job_id, error, case.job_type or "", bury)
        self._dispatch.report(case.claim, report, Watch())
        return True

    def retry(self, case: Case, error: Exception, phase: str) -> bool:
        """Anything unforeseen is tried again while attempts last."""
        attempt = case.claim.attempt
        log.error("job failed", job=case.job_id, type=case.job_type, phase=phase, attempt=attempt, **describe(error))
        if attempt >= MAX_ATTEMPTS:
            return self.reject(case, Rejected(GAVE_UP, code="failed"))
        delay = jittered(RETRY_DELAYS[attempt - 1])
        self._settle("parked", case, lambda: self._queue.park(case.claim.token, delay, counted=True))
        return False

    def _settle(self, event: str, case: Case, settle: Callable[[], bool]) -> None:
        """End a claim here and now. If the queue cannot be reached, its lease ends by itself."""
        try:
            settle()
            crash.point("settled")
            log.info(event, job=case.job_id, type=case.job_type, attempt=case.claim.attempt)
        except Unreachable as error:
            log.warning("claim left to its lease", job=case.job_id, reason=str(error))
