"""A worker in a thread of the tests' own process, with everything around it in memory."""

from __future__ import annotations

import functools
import json
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.guarding import guarded
from tests.support import wait_until
from workers import media
from workers.card.turn import NoTurn
from workers.claiming import Claimer
from workers.delivery.dispatch import Dispatch
from workers.delivery.outbox import Outbox
from workers.delivery.parcel import Parcel, Sign, Way
from workers.lease import Leases
from workers.making.maker import Maker
from workers.prompting.prompt import compose
from workers.prompting.rules import load_rules
from workers.references.loading import References
from workers.safety.guards import Guards
from workers.stop import Stop
from workers.tables import load_presets
from workers.testing.fakes import CallbackRecorder, FakeEngine, FakeEnhancer, MemoryStorage
from workers.testing.queue import MemoryQueue
from workers.worker import Worker, Workplace

USER = "11111111-2222-4333-8444-555555555555"
PRESETS = load_presets()


def payload(job_type: str = "image_fast", job_id: str | None = None, **values: object) -> str:
    job = {"id": job_id or str(uuid.uuid4()), "type": job_type, "user_id": USER, "prompt": "a red bicycle"}
    return json.dumps(job | values)


def job_id_of(body: str) -> str:
    return json.loads(body)["id"]


def encode(output, folder: Path, parcel: Parcel):
    facts = {"media": parcel.params.media, "fps": parcel.params.fps, "quality": parcel.params.quality}
    return media.encode(output, folder, limit=parcel.limit, text={}, thumbnail=False, **facts)


def sign(path: Path) -> None:
    """As if."""


@dataclass
class Bench:
    """A worker of one kind in a thread of this process, with doubles around it."""

    folder: Path
    kind: str = "wan"
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    engine: FakeEngine = field(default_factory=lambda: FakeEngine(steps=2))
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    callbacks: CallbackRecorder = field(default_factory=CallbackRecorder)
    references: References = field(default_factory=lambda: References("https://a.supabase.co", "key", frozenset()))
    lease: float = 45.0
    grace: float = 10.0
    guards: Guards | None = None
    sign: Sign = sign
    exit_code: int | None = None
    settled: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stop = Stop()
        self.outbox = Outbox(self.folder / "outbox", min_free=0)
        self.leases = Leases(self.queue, interval=self.lease / 4.5)
        guards = self.guards or guarded(self.folder)
        doors = (self.outbox, self.queue, self.storage, self.callbacks, self.leases)
        way = Way(*doors, encode, self.sign, guards.inspection)
        self.dispatch = Dispatch(way, on_room=self.stop.wake)
        rules = load_rules()
        self.maker = Maker(
            kind=self.kind,
            worker="test",
            presets=PRESETS,
            engine=self.engine,
            enhancer=FakeEnhancer(),
            gate=guards.gate,
            compose=functools.partial(compose, rules=rules, count=self.engine.count_tokens),
            scale=1 / 16,
            references=self.references,
        )
        self.claimer = Claimer(self.queue, self.stop, poll=0.05, lease=self.lease)
        self.worker = Worker(
            Workplace(
                maker=self.maker,
                claimer=self.claimer,
                queue=self.queue,
                leases=self.leases,
                dispatch=self.dispatch,
                outbox=self.outbox,
                stop=self.stop,
                turn=NoTurn(),
                poll=0.05,
                grace=self.grace,
                step_limit=20.0,
                settle=lambda: self.settled.append(self.engine.loads),
            )
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Bench:
        self.leases.start(lambda: None)
        self.dispatch.start()
        self._thread.start()
        return self

    def _run(self) -> None:
        self.exit_code = self.worker.run()

    def finish(self) -> int:
        if self._thread.is_alive():
            self.stop.request()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.stop.close()
        return self.exit_code

    def push(self, *bodies: str) -> list[str]:
        for body in bodies:
            self.queue.push(body)
        return [job_id_of(body) for body in bodies]

    def ends(self, count: int = 1) -> list:
        """The terminal outcomes, once there are so many and every claim is settled."""
        wait_until(lambda: len(self.callbacks.outcomes) >= count and self.is_settled())
        return self.callbacks.outcomes

    def is_settled(self) -> bool:
        """Whether nothing is held or on its way out any more."""
        return not self.leases.tokens and self.dispatch.idle


@pytest.fixture
def bench(tmp_path):
    made: list[Bench] = []

    def make(**parts) -> Bench:
        made.append(Bench(tmp_path, **parts))
        return made[-1].start()

    yield make
    for each in made:
        each.finish()
