"""What the beating thread of a worker does beside beating: signs of life for the supervisor, and an eye on the end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workers.claim import Sight
from workers.claiming import Claimer
from workers.delivery.dispatch import Dispatch
from workers.lease import THREAD_DIED, Leases
from workers.logs import log
from workers.queue.budget import Budget
from workers.stop import Stop
from workers.supervision import heartbeat
from workers.supervision.heartbeat import Heartbeat
from workers.supervision.keeper import LOADING
from workers.worker import Worker

LAST_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class Vitals:
    """Where the signs of life are read from. `busy` gives the seconds for which this process had the card, `card` and
    `memory` the bytes that it holds there and in the host."""

    worker: Worker
    leases: Leases
    dispatch: Dispatch
    claimer: Claimer
    budget: Budget
    model: str
    busy: Callable[[], float]
    card: Callable[[], int]
    memory: Callable[[], int]

    def __call__(self) -> Heartbeat:
        watch, sight = self.worker.watch, self._sight()
        return Heartbeat(
            generation=heartbeat.generation(),
            pid=os.getpid(),
            phase=_phase(self.worker),
            deadline=watch.deadline,
            monotonic=time.monotonic(),
            job=self.worker.job_id,
            type=self.worker.job_type,
            tokens=self.leases.tokens + self.claimer.tokens,
            step=watch.done,
            total=watch.total,
            vram=self.card() if self.worker.between != "start" else 0,
            done=self.dispatch.delivered,
            failed=self.dispatch.failed,
            commands=self.budget.used,
            waiting=sight.waiting if sight else None,
            oldest=sight.oldest if sight else None,
            paused=self.claimer.paused,
            seen=sight.at if sight else None,
            left=watch.left if self.worker.job_id else None,
            busy=self.busy(),
            memory=self.memory(),
            model=self.model,
        )

    def _sight(self) -> Sight | None:
        """The queue as whoever asked it last saw it."""
        seen = [sight for sight in (self.claimer.sight, self.leases.sight) if sight is not None]
        return max(seen, key=lambda sight: sight.at, default=None)


def each_second(path: Path, stop: Stop, sign_of_life: Callable[[], Heartbeat]) -> Callable[[], None]:
    """Writes the heartbeat file, and ends a main thread that hangs in foreign code while it should release its claims
    and go."""
    told: list[float] = []

    def tick() -> None:
        heartbeat.write(path, sign_of_life())
        if stop.now:
            told.append(time.monotonic())
        if told and time.monotonic() - told[0] > LAST_SECONDS:
            log.error("main thread hangs", exit_code=THREAD_DIED)
            os._exit(THREAD_DIED)

    return tick


def _phase(worker: Worker) -> str:
    """A warm-up runs through the phases of a job, but is none."""
    current = worker.watch.current
    if worker.between == "start" and current not in LOADING:
        return "warm_up" if current else "start"
    return current or worker.between
