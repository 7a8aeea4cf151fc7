"""Counts what a process says. Every event counts by its name; some also as jobs, retries, losses or seconds by phase.

Counts live in files in memory that the supervisor adds up, one set per slot and not per process: a worker goes on
counting where the one before it died, and a slot that crashes all day leaves no more files than one that never does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, get_args

from prometheus_client import Counter, Histogram, values
from prometheus_client.multiprocess import mark_process_dead

from workers.delivery.verdict import Meaning
from workers.watch import ORDER

FOLDER = "metrics"
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)

COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ourvidz_jobs": ("Jobs that ended, by how.", ("type", "status")),
    "ourvidz_attempts": ("Jobs that a worker began to work on.", ("type",)),
    "ourvidz_rejected": ("Jobs that were refused with a sentence for their user.", ("type", "field")),
    "ourvidz_retries": ("What was tried again: a job, a delivery, a callback, a service.", ("what",)),
    "ourvidz_dead": ("Jobs that went to the dead list.", ()),
    "ourvidz_lease_losses": ("Claims that were found lost.", ("phase",)),
    "ourvidz_callback_failures": ("Callbacks that were not accepted, by what the answer meant.", ("answer",)),
    "ourvidz_worker_exits": ("Workers that ended, by exit code.", ("slot", "code")),
}

RULES: Mapping[str, tuple[tuple[str, Mapping[str, str]], ...]] = {
    "claimed": (("ourvidz_attempts", {}),),
    "delivered": (("ourvidz_jobs", {}),),
    "cancelled": (("ourvidz_jobs", {"status": "cancelled"}),),
    "rejected": (("ourvidz_rejected", {}),),
    "job failed": (("ourvidz_retries", {"what": "job"}),),
    "delivery failed": (("ourvidz_retries", {"what": "delivery"}),),
    "volume failed": (("ourvidz_retries", {"what": "delivery"}),),
    "unreachable": (("ourvidz_retries", {}),),
    "buried": (("ourvidz_dead", {}),),
    "claim lost": (("ourvidz_lease_losses", {}),),
    "callback failed": (("ourvidz_retries", {"what": "callback"}), ("ourvidz_callback_failures", {})),
    "worker ended": (("ourvidz_worker_exits", {}),),
}
"""Event -> the counters that it moves, with the labels that are not fields of the event."""

ZEROS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "ourvidz_dead": [()],
    "ourvidz_lease_losses": [(phase,) for phase in ("", *ORDER)],
    "ourvidz_callback_failures": [(answer,) for answer in get_args(Meaning) if answer != "accepted"],
}
"""Counters that are there before they count: Prometheus sees no increase in what begins at one, and alerts would miss
the first."""

Event = MutableMapping[str, Any]


def prepare(run_dir: Path, slots: list[str]) -> Path:
    """The folder for the files of these slots, which have none yet. For the supervisor, before it starts a worker."""
    folder = run_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for slot in slots:
        for left in folder.glob(f"*_{slot}.db"):
            left.unlink()
    return folder


def forget_live(folder: Path, slot: str) -> None:
    """A worker died: what counts stays, what was only true of it while it lived goes."""
    mark_process_dead(slot, str(folder))


class EventCounter:
    """A step of the log's processing that changes nothing. `name` is the slot's, `types` its jobs'; VARIABLE
    must be set."""

    def __init__(self, name: str, types: Iterable[str] = ()) -> None:
        values.ValueClass = values.MultiProcessValue(lambda: name)
        own = ("kind",)
        self._name = name
        self._events = Counter("ourvidz_events", "Events by name.", (*own, "event"), registry=None)
        self._counters = {
            metric: Counter(metric, text, (*own, *labels), registry=None) for metric, (text, labels) in COUNTERS.items()
        }
        jobs = {"ourvidz_jobs": [(job_type, status) for job_type in types for status in ("completed", "failed")]}
        for metric, rows in {**ZEROS, **jobs}.items():
            for labels in rows:
                self._counters[metric].labels(name, *labels)
        self._phases = Histogram(
            "ourvidz_phase_seconds",
            "Seconds of a completed job by phase.",
            (*own, "type", "phase"),
            buckets=BUCKETS,
            registry=None,
        )

    def __call__(self, _logger: Any, _method: str, event: Event) -> Event:
        with contextlib.suppress(OSError):  # memory is full: the event itself must still be told
            self._count(event)
        return event

    def _count(self, event: Event) -> None:
        name = str(event.get("event", ""))
        self._events.labels(self._name, name).inc()
        for metric, fixed in RULES.get(name, ()):
            labels = [str(fixed.get(label, event.get(label)) or "") for label in COUNTERS[metric][1]]
            self._counters[metric].labels(self._name, *labels).inc()
        if name == "delivered" and event.get("status") == "completed":
            self._observe(event)

    def _observe(self, event: Event) -> None:
        for field, seconds in event.items():
            if field.endswith("_s") and isinstance(seconds, (int, float)):
                self._phases.labels(self._name, str(event.get("type")), field.removesuffix("_s")).observe(seconds)


def counter_for(name: str, types: Iterable[str] = ()) -> list[EventCounter]:
    """What this process counts with: nothing where nobody would read it."""
    return [EventCounter(name, types)] if os.environ.get(VARIABLE) else []
