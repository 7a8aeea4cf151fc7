"""How long jobs of each type take on this machine, phase by phase: learned from those that were delivered."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

from workers.supervision.ledger import Entry
from workers.watch import ORDER

FILE = "estimates.json"
RECENT = 20
Seconds = Mapping[str, float]


def learn(entries: Iterable[Entry]) -> dict[str, dict[str, float]]:
    """Job type -> phase -> median seconds of its most recent jobs; `entries` from the oldest to the newest."""
    by_type: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.status == "completed":
            by_type[entry.type].append(entry)
    return {name: _medians(found[-RECENT:]) for name, found in by_type.items()}


class Estimates:
    """What the file says, read again when it changed. Knows nothing while there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = 0
        self._known: dict[str, dict[str, float]] = {}

    def __call__(self, job_type: str) -> Seconds:
        return self.all().get(job_type, {})

    def all(self) -> dict[str, dict[str, float]]:
        """By job type."""
        self._refresh()
        return self._known

    def _refresh(self) -> None:
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._known, self._stamp = json.loads(self._path.read_text()), stamp
        except (OSError, ValueError):
            return


def _medians(entries: list[Entry]) -> dict[str, float]:
    """A phase that a job did not have took it no time."""
    return {phase: round(median(entry.timings.get(phase, 0.0) for entry in entries), 3) for phase in ORDER}
