"""How long the card stood idle while jobs were made, and what became of them.

There are three accounts: the worker's own, which it also logs; what the phases of all jobs leave of the time in which
they were made; and the driver's, which knows nothing of jobs.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.overlap import DELIVERING, MAKING, Overlap, total

QUIET = ("info", "debug")


@dataclass(frozen=True, slots=True)
class Job:
    """When it was claimed, made, and accepted by the receiver, in seconds of the epoch; and what was said of it."""

    claimed: float
    made: float
    accepted: float
    metadata: Mapping[str, Any]

    def seconds(self, phases: Iterable[str]) -> float:
        return total(self.metadata["timings"], phases)


@dataclass(frozen=True, slots=True)
class Look:
    """`busy` in percent of the last moments, and bytes in use of the card and of the worker's own memory; None for a
    card that is not there."""

    at: float
    busy: int | None
    card: int | None
    host: int


@dataclass(frozen=True, slots=True)
class Run:
    """`jobs` in the order in which they were made, `events` as the worker logged them."""

    jobs: Sequence[Job]
    looks: Sequence[Look]
    events: Sequence[Mapping[str, Any]]

    @property
    def span(self) -> float:
        """Seconds from the first claim to the last job's pixels."""
        return self.jobs[-1].made - self.jobs[0].claimed

    @property
    def overlap(self) -> Overlap:
        return Overlap(
            jobs=len(self.jobs),
            wall=max(job.accepted for job in self.jobs) - self.jobs[0].claimed,
            making=sum(job.seconds(MAKING) for job in self.jobs),
            delivery=min(job.seconds(DELIVERING) for job in self.jobs),
        )

    @property
    def idle(self) -> dict[str, float]:
        """Shares of the span by who counted. The worker counts from job to job: what was before the first one's end is
        its start."""
        since = self.jobs[-1].made - self.jobs[0].made
        own = sum(job.metadata["idle_share"] * (job.made - before.made) for before, job in pairwise(self.jobs))
        shares = {"phases": 1 - self.overlap.making / self.span, "worker": own / since if since else 0.0}
        busy = [look.busy for look in self.looks if look.busy is not None and self._is_within(look)]
        return shares | ({"driver": 1 - statistics.fmean(busy) / 100} if busy else {})

    def _is_within(self, look: Look) -> bool:
        return self.jobs[0].claimed <= look.at <= self.jobs[-1].made

    def facts(self) -> dict[str, Any]:
        last = self.jobs[-1]
        ready = next(event for event in self.events if event["event"] == "ready")
        pairs = list(pairwise(self.jobs))
        return {
            "idle": {name: round(share, 4) for name, share in self.idle.items()},
            "ratio": round(self.overlap.ratio, 3),
            "making": round(self.span, 2),
            "last_delivery": round(last.accepted - last.made, 2),
            "between_two": _median(after.claimed - before.made for before, after in pairs),
            "beside_phases": _median(job.made - job.claimed - job.seconds(MAKING) for job in self.jobs),
            "making_of_one": _medians(self.jobs, MAKING),
            "delivery_of_one": _medians(self.jobs, DELIVERING),
            "host_gb": _most(look.host for look in self.looks),
            "card_gb": _most(look.card or 0 for look in self.looks),
            "card_tensors_gb": _most(job.metadata["memory"]["card_peak"] for job in self.jobs),
            "start": {name: ready[name] for name in ("load_s", "warm_up_s") if name in ready},
            "made_again": sum("fallback" in job.metadata for job in self.jobs),
            "troubles": Counter(event["event"] for event in self.events if event["level"] not in QUIET),
        }


def _medians(jobs: Sequence[Job], phases: Iterable[str]) -> dict[str, float]:
    medians = {phase: _median(job.seconds([phase]) for job in jobs) for phase in phases}
    return {phase: median for phase, median in medians.items() if median}


def _median(seconds: Iterable[float]) -> float:
    """0 of nothing."""
    return round(statistics.median([*seconds] or [0.0]), 3)


def _most(sizes: Iterable[int]) -> float:
    return round(max(sizes, default=0) / 1e9, 2)
