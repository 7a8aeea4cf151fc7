"""What a job cost beside its seconds: memory, and how long the card had stood idle until it was made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from workers.ops.odometer import Odometer
from workers.supervision import heartbeat


class Meter:
    """Measures from one call to the next: call it once a job. `peak` gives the most bytes of the card since it was
    last asked, `memory` those of the host now, `busy` the seconds for which this process had the card, `others` do
    the same for every other process: (life, seconds)."""

    def __init__(
        self,
        *,
        busy: Callable[[], float],
        others: Callable[[], Iterable[tuple[object, float]]],
        peak: Callable[[], int],
        memory: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._busy, self._others, self._peak, self._memory, self._clock = busy, others, peak, memory, clock
        self._odometers: dict[int, Odometer] = {}
        self._before = (clock(), self._all_busy())

    def __call__(self) -> dict[str, Any]:
        (then, had), (now, has) = self._before, (self._clock(), self._all_busy())
        self._before = (now, has)
        idle = 1.0 - (has - had) / (now - then) if now > then else 0.0
        memory = {"card_peak": self._peak(), "host": self._memory()}
        return {"idle_share": round(min(1.0, max(0.0, idle)), 3), "memory": memory}

    def _all_busy(self) -> float:
        total = self._busy()
        for place, (life, seconds) in enumerate(self._others()):
            total += self._odometers.setdefault(place, Odometer()).read(life, seconds)
        return total


def beats_of(paths: Iterable[Path]) -> Iterable[tuple[object, float]]:
    """What other workers of this machine say of themselves."""
    for path in paths:
        beat = heartbeat.read(path)
        yield (beat.pid, beat.busy) if beat else (None, 0.0)
