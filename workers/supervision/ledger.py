"""How each job ended, written down by workers for the supervisor of their machine, which takes it away.

One small file per job in a folder in memory: nothing to lock, nothing half written, nothing that grows.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workers import records
from workers.job import Delivery, Outcome
from workers.watch import MAKING

FOLDER = "ended"
MOST = 1000
"""Entries that nobody took away; what comes then is dropped."""

FACTS = (
    "model", "width", "height", "frames", "steps", "num_images", "rating", "worker", "enhancement", "idle_share",
    "memory",
)  # fmt: skip
"""What operators may see of the metadata of a job. No prompt, no seed, no reference."""

CARD_PHASES = tuple(phase for phase in MAKING if phase != "fetch")
WAITING = frozenset({"wait", "turn", "load"})
"""Seconds in a job's timings that are no work on it: in the queue, for the card, and none at all."""


@dataclass(frozen=True, slots=True)
class File:
    """One delivered object, where storage has it. `thumbnail` is a path in the same bucket."""

    bucket: str
    path: str
    content_type: str
    bytes: int
    thumbnail: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """The end of one job, as far as operators may know it. `at` is the epoch, `timings` are seconds by phase."""

    job: str
    type: str
    status: str
    at: float
    attempt: int
    reason: str | None = None
    error_type: str | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[File, ...] = ()

    @property
    def wait(self) -> float:
        """Seconds in the queue before its worker had it."""
        return self.timings.get("wait", 0.0)

    @property
    def work(self) -> float:
        """Seconds from the claim to the accepted callback, without those spent waiting for the card."""
        return sum(seconds for phase, seconds in self.timings.items() if phase not in WAITING)

    @property
    def on_card(self) -> float:
        return sum(self.timings.get(phase, 0.0) for phase in CARD_PHASES)


Note = Callable[[Entry], None]


def entry_of(outcome: Outcome, attempt: int, clock: Callable[[], float] = time.time) -> Entry:
    metadata = outcome.metadata
    return Entry(
        job=outcome.job_id,
        type=outcome.type,
        status=outcome.status,
        at=round(clock(), 3),
        attempt=attempt,
        reason=outcome.error_message,
        error_type=outcome.error_type,
        timings=dict(metadata.get("timings", {})),
        facts={name: metadata[name] for name in FACTS if metadata.get(name) is not None},
        files=tuple(map(_file, outcome.deliveries)),
    )


def writer(folder: Path, name: str) -> Note:
    """Whoever is given an entry puts it into the folder, unless nobody has emptied that for long. Never raises."""

    def note(entry: Entry) -> None:
        final = folder / f"{time.time_ns():020}-{name}.json"
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if len(os.listdir(folder)) < MOST:
                records.write(final, asdict(entry))

    return note


def take(folder: Path) -> Iterator[Entry]:
    """What was written, the oldest first; each is gone when the next is asked for."""
    for path in sorted(folder.glob("*.json")):
        entry = _read(path)
        path.unlink(missing_ok=True)
        if entry is not None:
            yield entry


def from_record(record: Mapping[str, Any]) -> Entry:
    """Raises `TypeError` or `KeyError` for a record of a release that is too different."""
    files = tuple(File(**records.known(File, item)) for item in record.get("files", ()))
    return Entry(**{**records.known(Entry, record), "files": files})


def _read(path: Path) -> Entry | None:
    try:
        return from_record(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _file(delivery: Delivery) -> File:
    return File(delivery.bucket, delivery.path, delivery.content_type, delivery.bytes, delivery.thumbnail_path)
