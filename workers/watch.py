"""What a running job tells the rest of its process: where it is, since when, and whether it should go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

PHASE_LIMITS = {
    "load": 300.0,
    "warm_up": 300.0,
    "convert": 1800.0,
    "fetch": 150.0,
    "enhance": 60.0,
    "lora": 120.0,
    "encode_text": 120.0,
    "encode_image": 180.0,
    "denoise": 120.0,
    "decode": 180.0,
    "screen": 150.0,
    "encode": 180.0,
    "upload": 180.0,
    "callback": 30.0,
}
"""Seconds a phase may show no progress before it counts as hung."""

MAKING = ("fetch", "enhance", "lora", "encode_text", "encode_image", "denoise", "decode", "watermark")
ORDER = (*MAKING, "screen", "encode", "sign", "upload", "callback")
"""The phases of a job, one after the other."""


class Watch:
    """One job's (or one load's) progress. Written by the thread that works, read by those that beat and log.

    `timings` holds seconds by phase, summed where a phase is entered more than once. `notes` are what engines
    found out on the way and the callback's metadata should say, such as token counts. `expected` is what the phases
    of such jobs usually take, as far as that is known. `on_step` is asked at every step and may `abort`.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        step_limit: float | None = None,
        on_step: Callable[[Watch], None] | None = None,
    ) -> None:
        self._clock = clock
        self._abort: Exception | None = None
        self._lock = threading.Lock()
        self._step_limit = step_limit
        self._on_step = on_step
        self._phase_began = clock()
        self.timings: dict[str, float] = {}
        self.notes: dict[str, Any] = {}
        self.expected: Mapping[str, float] = {}
        self.current = ""
        self.done = 0
        self.total = 0
        self.moved_at = clock()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase and move the marker at both ends. Raises what `abort` was given, at the start only."""
        self.raise_if_aborted()
        outer, started = self.current, self._clock()
        self._phase_began = started
        self._move(name, 0, 0)
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + self._clock() - started
            self._move(outer, 0, 0)

    def step(self, done: int, total: int) -> None:
        """Move the marker within a phase. Raises `Interrupted`, `Cancelled` or `ClaimLost` if told to stop."""
        self._move(self.current, done, total)
        if self._on_step is not None:
            self._on_step(self)
        self.raise_if_aborted()

    def abort(self, error: Exception) -> None:
        """Ask the working thread to stop at its next step with this error. The first one asked for wins."""
        with self._lock:
            self._abort = self._abort or error

    def successor(self) -> Watch:
        """A watch for the thread that goes on with this job, counting on from these timings."""
        watch = Watch(self._clock)
        watch.timings.update(self.timings)
        watch.expected = self.expected
        return watch

    @property
    def aborted(self) -> bool:
        return self._abort is not None

    @property
    def remaining(self) -> float:
        """Seconds that the present phase will still take at its pace so far; 0 while unknown."""
        return self._elapsed * (self.total - self.done) / self.done if self.done else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the end of the job, None where nobody knows what such jobs take."""
        if not self.expected:
            return None
        if self.current not in ORDER:
            return self._expected(phase for phase in ORDER if phase not in self.timings)
        later = ORDER[ORDER.index(self.current) + 1 :]
        usual = max(0.0, self.expected.get(self.current, 0.0) - self._elapsed)
        return (self.remaining or usual) + self._expected(later)

    @property
    def share(self) -> float:
        """How much of the job is done, from 0 to 1, where `left` is known; else 0."""
        past = sum(self.timings.get(phase, 0.0) for phase in ORDER) + self._elapsed
        whole = past + (self.left or 0.0)
        return past / whole if self.expected and whole else 0.0

    @property
    def deadline(self) -> float:
        """When, on this watch's clock, the present phase counts as hung unless it moves before."""
        return self.moved_at + self._limit()

    @property
    def alive(self) -> bool:
        return self._clock() <= self.deadline

    @property
    def _elapsed(self) -> float:
        return self._clock() - self._phase_began if self.current else 0.0

    def _expected(self, phases: Iterable[str]) -> float:
        return sum(self.expected.get(phase, 0.0) for phase in phases)

    def _limit(self) -> float:
        if self.current == "denoise" and self._step_limit is not None:
            return self._step_limit
        return PHASE_LIMITS.get(self.current, 60.0)

    def _move(self, name: str, done: int, total: int) -> None:
        self.current, self.done, self.total = name, done, total
        self.moved_at = self._clock()

    def raise_if_aborted(self) -> None:
        if self._abort is not None:
            raise self._abort


def rounded(timings: Mapping[str, float]) -> dict[str, float]:
    """Seconds by phase, for metadata."""
    return {phase: round(seconds, 3) for phase, seconds in timings.items()}


def spent(timings: Mapping[str, float]) -> dict[str, float]:
    """Seconds by phase, as fields of an event."""
    return {f"{phase}_s": round(seconds, 2) for phase, seconds in timings.items()}
