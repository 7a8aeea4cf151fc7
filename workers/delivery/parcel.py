"""What delivery works on, and its doors to the outside: queue, storage and receiver as it needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from workers.claim import Claim
from workers.delivery.outbox import Outbox
from workers.delivery.verdict import Verdict
from workers.job import Artifact, Delivery, Outcome, Output, SamplingParams
from workers.lease import Leases
from workers.safety.inspection import Inspection
from workers.supervision.ledger import Entry, Note
from workers.watch import Watch


class Queue(Protocol):
    def remember(self, token: str, job_id: str, result: Mapping[str, Any], body: str = "") -> bool: ...
    def release(self, token: str, *, counted: bool) -> bool: ...
    def park(self, token: str, delay: float, *, counted: bool) -> bool: ...
    def ack(self, token: str, job_id: str | None) -> bool: ...
    def bury(self, token: str, reason: str, job_id: str | None = None) -> bool: ...


class Storage(Protocol):
    """`put` raises `Unreachable` to be tried again, `Rejected` when the object is refused for good."""

    def put(self, artifact: Artifact, job_type: str, user_id: str, job_id: str) -> Delivery: ...
    def delete(self, deliveries: tuple[Delivery, ...]) -> None: ...
    def clear(self, job_type: str, user_id: str, job_id: str) -> None: ...


class Callbacks(Protocol):
    """Whatever happens to a callback is in its verdict; nothing is raised. `adopt_image` raises `Unreachable` to be
    tried again. `repeats` is true where the receiver may miss rows that are linked late."""

    @property
    def repeats(self) -> bool: ...
    def send(self, outcome: Outcome, user_id: str) -> Verdict: ...
    def announce(self, job_id: str, metadata: Mapping[str, Any]) -> None: ...
    def adopt_image(self, outcome: Outcome) -> None: ...


def _nobody(_entry: Entry) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Parcel:
    """A made job: pixels in host memory, and what its callback will say. `limit` is the bucket's, in bytes."""

    claim: Claim
    job_id: str
    user_id: str
    params: SamplingParams
    outputs: tuple[Output, ...]
    limit: int
    enhanced_prompt: str | None
    metadata: Mapping[str, Any]


Encode = Callable[[Output, Path, Parcel], Artifact]
Sign = Callable[[Path], None]
"""Puts content credentials into a file. Raises `Unreachable` while whoever signs does not answer."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where deliveries go, what looks at them before, encodes and signs them: the doors of this process. `note` is told
    of each job that ended."""

    outbox: Outbox
    queue: Queue
    storage: Storage
    callbacks: Callbacks
    leases: Leases
    encode: Encode
    sign: Sign
    inspection: Inspection
    note: Note = _nobody


@dataclass(frozen=True, slots=True)
class Errand:
    """One job on its way out: whose claim it is, and the watch that its steps move."""

    claim: Claim
    job_id: str
    job_type: str
    watch: Watch
