"""What is left to say about a job: its outcome as remembered in the queue, for whoever sends the callback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from workers.claim import Claim
from workers.errors import Rejected
from workers.job import Delivery, Outcome
from workers.payload import find_user
from workers.records import known


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

    @property
    def is_blocked(self) -> bool:
        return self.outcome.error_type == "policy"

    @property
    def kept(self) -> str | None:
        """Why the job goes to the dead list, if it does. The words of one that a gate blocked are kept nowhere."""
        return None if self.is_blocked else self.bury

    def instead_of(self, body: str) -> str:
        """What takes the place of a blocked job's message while its callback waits, "" for any other job: who is to
        hear of it, and no type, so that nothing can be made of it any more."""
        return json.dumps({"id": self.outcome.job_id, "user_id": find_user(body)}) if self.is_blocked else ""

    def record(self) -> dict[str, Any]:
        """As JSON, for `q:result:{job}`."""
        return asdict(self) | {"delivered": False}

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Report:
        """The other way. Raises `KeyError` or `TypeError` for a record of a release that is too different."""
        values, outcome = known(Report, record), known(Outcome, record["outcome"])
        outcome["deliveries"] = tuple(_delivery(item) for item in outcome["deliveries"])
        return Report(**{**values, "outcome": Outcome(**outcome)})


def _delivery(record: Mapping[str, Any]) -> Delivery:
    return Delivery(**{**known(Delivery, record), "size": tuple(record["size"])})


def spoken_by(claim: Claim, outcome: Outcome) -> Outcome:
    """The outcome under the claim that speaks of it, which may be later than the one that it was made under."""
    return replace(outcome, metadata={**outcome.metadata, "attempt": claim.attempt, "fence": claim.fence})
