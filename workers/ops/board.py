"""What is known of this machine's workers and queues right now. The supervisor's thread writes, others read."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from workers.claim import Sight
from workers.ops.odometer import Odometer
from workers.supervision.heartbeat import Heartbeat
from workers.supervision.keeper import View
from workers.supervision.slot import State

SILENT = 5.0
"""Seconds after which a worker that shows no sign of life is not ready."""

STUCK = 15.0
"""Seconds after which a supervisor that does not look at its slots counts as hung."""

MEMORY = 600
"""How many seconds of the card's use are kept."""


@dataclass(frozen=True, slots=True)
class WorkerNow:
    """One worker. Seconds and bytes; None for what does not apply. `age` is that of its last sign of life."""

    kind: str
    queue: str
    state: str
    ready: bool
    pid: int | None
    phase: str
    job: str | None
    type: str | None
    step: int
    steps: int
    percent: int | None
    left: float | None
    model: str
    vram: int
    memory: int
    claims: int
    up: float | None
    age: float | None
    retry_in: float | None
    restarts: int
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class QueueNow:
    """One queue as it was seen `age` seconds ago; None before anybody looked. `oldest` is a wait in seconds."""

    name: str
    kind: str
    waiting: int | None
    oldest: float | None
    paused: bool
    age: float | None


@dataclass(slots=True)
class Sums:
    """Of one slot since the supervisor began, whatever died meanwhile."""

    busy: Odometer = field(default_factory=Odometer)
    commands: Odometer = field(default_factory=Odometer)
    done: Odometer = field(default_factory=Odometer)
    failed: Odometer = field(default_factory=Odometer)

    def read(self, beat: Heartbeat) -> None:
        self.busy.read(beat.pid, beat.busy)
        self.commands.read(beat.pid, beat.commands)
        self.done.read(beat.pid, beat.done)
        self.failed.read(beat.pid, beat.failed)


class Board:
    """`queues` are kind -> queue. Before the first look every worker counts as starting."""

    def __init__(self, queues: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._queues, self._clock = queues, clock
        self._views: Mapping[str, View] = {}
        self._sights: dict[str, Sight] = {}
        self._paused: dict[str, bool] = {}
        self._looked = self.began = clock()
        self._card: deque[tuple[float, float]] = deque([(self.began, 0.0)], maxlen=MEMORY)
        self.sums = {kind: Sums() for kind in queues}

    def see(self, views: Sequence[View]) -> None:
        """All slots as they are, about once a second."""
        now = self._clock()
        for view in views:
            if view.beat is not None:
                self._hear(view.name, view.beat)
        self._views = {view.name: view for view in views}
        self._card.append((now, sum(sums.busy.total for sums in self.sums.values())))
        self._looked = now

    def sighted(self, kind: str, sight: Sight) -> None:
        """Somebody looked at a queue; what is older than what is known says nothing."""
        known = self._sights.get(kind)
        if known is None or sight.at >= known.at:
            self._sights[kind] = sight

    @property
    def stuck(self) -> bool:
        """The supervisor itself does not go on."""
        return self._clock() - self._looked > STUCK

    def workers(self) -> list[WorkerNow]:
        return [self._worker(kind, self._views.get(kind)) for kind in self._queues]

    def queues(self) -> list[QueueNow]:
        return [self._queue(kind, name) for kind, name in self._queues.items()]

    def problems(self) -> list[str]:
        """Why this machine does not serve everything it should, in sentences; nothing where it does."""
        found = [f"The {w.kind} worker is {_said(w)}." for w in self.workers() if not w.ready]
        return [*found, *(["The supervisor does not answer."] if self.stuck else [])]

    @property
    def loading(self) -> bool:
        """Whether whatever is not ready is on its way to be: starting, or waiting a little to be started again."""
        soon = {str(State.STARTING), str(State.BACKING_OFF)}
        return not self.stuck and all(worker.ready or worker.state in soon for worker in self.workers())

    def idle_share(self, seconds: float) -> float | None:
        """1 minus the share of the last seconds for which a worker had the card; None while there is no past."""
        now, busy = self._card[-1]
        then, before = next(((at, was) for at, was in self._card if now - at <= seconds), (now, busy))
        return None if now <= then else round(min(1.0, max(0.0, 1.0 - (busy - before) / (now - then))), 4)

    def _hear(self, kind: str, beat: Heartbeat) -> None:
        self.sums[kind].read(beat)
        self._paused[kind] = beat.paused
        if beat.waiting is not None and beat.seen is not None:
            self.sighted(kind, Sight(beat.waiting, beat.oldest, beat.seen))

    def _worker(self, kind: str, view: View | None) -> WorkerNow:
        beat = view.beat if view else None
        age = max(0.0, self._clock() - beat.monotonic) if beat else None
        sums = self.sums[kind]
        return WorkerNow(
            kind=kind,
            queue=self._queues[kind],
            state=str(view.state) if view else str(State.STARTING),
            ready=view is not None and view.loaded and _well(beat, age),
            pid=view.pid if view else None,
            phase=beat.phase if beat else "",
            job=beat.job if beat else None,
            type=beat.type if beat else None,
            step=beat.step if beat else 0,
            steps=beat.total if beat else 0,
            percent=beat.percent if beat else None,
            left=_rounded(beat.left if beat else None),
            model=beat.model if beat else "",
            vram=beat.vram if beat else 0,
            memory=beat.memory if beat else 0,
            claims=len(beat.tokens) if beat else 0,
            up=_rounded(view.up if view else None),
            age=_rounded(age),
            retry_in=_rounded(view.retry_in if view else None),
            restarts=view.restarts if view else 0,
            done=int(sums.done.total),
            failed=int(sums.failed.total),
        )

    def _queue(self, kind: str, name: str) -> QueueNow:
        sight = self._sights.get(kind)
        if sight is None:
            return QueueNow(name, kind, None, None, False, None)
        waited = None if sight.oldest is None else max(0.0, time.time() - sight.oldest)
        age = self._clock() - sight.at
        return QueueNow(name, kind, sight.waiting, _rounded(waited), self._paused.get(kind, False), _rounded(age))


def _well(beat: Heartbeat | None, age: float | None) -> bool:
    return beat is not None and age is not None and age <= SILENT and beat.phase != "unready"


def _said(worker: WorkerNow) -> str:
    if worker.state == State.RUNNING:
        return "unable to work" if worker.phase == "unready" else "silent"
    return worker.state


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
