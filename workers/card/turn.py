"""Whose turn it is on the card: one process computes at a time, handed over between two denoising steps.

Two processes at once on one card are each half as fast and gain nothing in sum. A turnstile of two lock files keeps
the order: who wants the card holds `want` while it waits for `turn`. The kernel frees both when their holder dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.watch import Watch

POLL = 0.005


class Stopwatch:
    """Seconds between `start` and `stop`, summed up. Any thread may read them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._state: tuple[float, float | None] = (0.0, None)

    def start(self) -> None:
        self._state = (self.seconds, self._clock())

    def stop(self) -> None:
        self._state = (self.seconds, None)

    @property
    def seconds(self) -> float:
        total, since = self._state
        return total if since is None else total + self._clock() - since


class Turn:
    """One process's place at the turnstile of one card.

    A holder that `yields` lets another in between two steps, but no sooner after an interruption than it has had
    the card for half as long as it was away. `synchronize` waits until the card has done what was asked of it.
    """

    def __init__(
        self,
        folder: Path,
        card: str,
        *,
        yields: bool,
        synchronize: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._want, self._turn = (_open(folder / f"card-{card}.{name}") for name in ("want", "turn"))
        self._yields, self._synchronize, self._clock = yields, synchronize, clock
        self._holds = False
        self._owed_until = 0.0
        self.held_for = Stopwatch(clock)

    @contextmanager
    def held(self, watch: Watch) -> Iterator[None]:
        """Wait for the card, have it, and give it back. What the watch raises while waiting passes through."""
        self._take(watch)
        try:
            yield
        finally:
            if self._holds:
                self._synchronize()
                self._give()

    def offer(self, watch: Watch) -> None:
        """Between two steps: let another in that wants the card, and wait to have it again."""
        if not (self._holds and self._yields) or self._clock() < self._owed_until or not self._wanted():
            return
        self._synchronize()
        self._give()
        left = self._clock()
        self._take(watch)
        back = self._clock()
        self._owed_until = back + (back - left) / 2

    def _take(self, watch: Watch) -> None:
        """Waiting is progress: the marker moves, and the waiting counts for itself, not for the phase."""
        began = self._clock()
        _wait_for(self._want, watch)
        try:
            _wait_for(self._turn, watch)
        finally:
            fcntl.flock(self._want, fcntl.LOCK_UN)
        self._holds = True
        self.held_for.start()
        waited = self._clock() - began
        watch.timings["turn"] = watch.timings.get("turn", 0.0) + waited
        if watch.current:
            watch.timings[watch.current] = watch.timings.get(watch.current, 0.0) - waited

    def _give(self) -> None:
        self._holds = False
        self.held_for.stop()
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def _wanted(self) -> bool:
        if _try(self._want):
            fcntl.flock(self._want, fcntl.LOCK_UN)
            return False
        return True


class NoTurn:
    """Where there is no card to share: nobody waits for anybody."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.held_for = Stopwatch(clock)

    @contextmanager
    def held(self, watch: Watch) -> Iterator[None]:
        self.held_for.start()
        try:
            yield
        finally:
            self.held_for.stop()

    def offer(self, watch: Watch) -> None: ...


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(lock: int, watch: Watch) -> None:
    """Poll, because a blocking lock would sleep through signals."""
    while not _try(lock):
        time.sleep(POLL)
        watch.step(watch.done, watch.total)
