"""What the delivery asks before and after it encodes: gate G3, and the lines and hashes that stay of a result."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from workers.job import Artifact, Output, Rating
from workers.safety.audit import Chain
from workers.safety.block import Blocked, recording
from workers.safety.output import Scan, Screen, rounded
from workers.safety.registry import Entry, Registry

PATIENCE = 120.0
"""Seconds that looking at all outputs of a job may take before it counts as failed."""


class Made(Protocol):
    """A made job as far as it matters here."""

    @property
    def job_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Inspection:
    """Any thread may call."""

    screen: Screen
    audit: Chain
    registry: Registry
    clock: Callable[[], float] = time.time

    def look(self, made: Made, output: Output) -> Scan:
        """Raises `Blocked`, or `Unrecorded` where that could not be written down."""
        try:
            return self.screen.look(output, _rating(made))
        except Blocked as blocked:
            self._refused(made, blocked)
            raise

    def took_too_long(self, made: Made) -> Blocked:
        """What to raise where `look` did not come back."""
        blocked = self.screen.failed("G3", TimeoutError())
        self._refused(made, blocked)
        return blocked

    def record(self, made: Made, job_type: str, artifacts: Sequence[Artifact], scans: Sequence[Scan]) -> None:
        """Write down what is about to leave. Raises `Unrecorded` or `sqlite3.Error`: then it does not."""
        found = {scan.index: scan for scan in scans}
        entries = [self._entry(made, job_type, artifact, found[artifact.index]) for artifact in artifacts]
        outputs = [
            {
                "index": e.position,
                "sha256": e.sha256,
                "prints": list(e.prints),
                "scores": rounded(found[e.position].scores),
            }
            for e in entries
        ]
        with recording(made.job_id):
            self.audit.write("made", **self._facts(made), outputs=outputs)
        self.registry.add(entries)

    def _entry(self, made: Made, job_type: str, artifact: Artifact, scan: Scan) -> Entry:
        return Entry(
            job=made.job_id,
            position=artifact.index,
            sha256=_sha256(artifact.path),
            user=self.audit.mac(made.user_id),
            type=job_type,
            at=self.clock(),
            owner=made.user_id,
            prints=scan.prints,
        )

    def _refused(self, made: Made, blocked: Blocked) -> None:
        self.screen.blocked.append(str(made.metadata.get("original_prompt", "")))
        facts = {**self._facts(made), **blocked.facts}
        with recording(made.job_id):
            self.audit.write("blocked", **facts, gate=blocked.gate, rule=blocked.rule)

    def _facts(self, made: Made) -> dict[str, Any]:
        known = made.metadata
        return {
            "job": made.job_id,
            "type": known.get("job_type"),
            "user": self.audit.mac(made.user_id),
            "rating": _rating(made),
            "model": known.get("model"),
            "model_hash": known.get("model_hash"),
            "seeds": known.get("seeds"),
            "scorers": self.screen.versions,
        }


def _rating(made: Made) -> Rating:
    """Anything else than adult is judged as sfw, which is stricter about what is shown."""
    return "adult" if made.metadata.get("rating") == "adult" else "sfw"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
