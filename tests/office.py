"""A deployment whose redis can be set back, for tests of what is found lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import valkey
from double import service
from queue_bench import LEASE, SocketConnection, connect, new_token

from workers import payload
from workers.delivery.report import Report
from workers.job import Delivery, Outcome
from workers.kinds import KINDS, open_callbacks
from workers.local.stack import LocalStack
from workers.queue.upstash import UpstashQueue
from workers.settings import Settings
from workers.supabase.rows import JobRows
from workers.supervision.reconciler import Reconciler
from workers.tables import load_presets

PRESETS = load_presets()


class Office:
    """A deployment, a redis that can be set back, and whoever works and reconciles there."""

    def __init__(self, stack: LocalStack, redis: valkey.Valkey) -> None:
        self.stack, self.redis, self.now = stack, redis, time.time()
        names = {name.lower(): value for name, value in stack.env.items()}
        self.settings = Settings(_env_file=None, **names)
        self.queues = {kind: self._queue(kind) for kind in KINDS}
        self.rows = JobRows(self.settings.supabase_url, self.stack.double.keys.service)
        self.callbacks = open_callbacks(self.settings)
        self.made: list[str] = []

    def submit(self, job_type: str = "sdxl_image_fast", **config: Any) -> str:
        return self.stack.submit(job_type, "a red bicycle", num_images=1, **config)

    def change(self, job_id: str, **values: Any) -> None:
        with service(self.stack) as api:
            api.patch("/rest/v1/jobs", params={"id": f"eq.{job_id}"}, json=values).raise_for_status()

    def reconciler(self, who: str = "one", interval: float = 120.0) -> Reconciler:
        kinds = {preset.type: preset.kind for preset in PRESETS.values()}
        parts = (self.rows, self.queues, self.callbacks)
        return Reconciler(*parts, kinds=kinds, who=who, interval=interval, clock=lambda: self.now)

    def reconcile(self, *, minutes: float = 3, who: str = "one") -> None:
        """What a reconciler does who looks so many minutes from now."""
        self.now = time.time() + minutes * 60
        self.reconciler(who).reconcile()

    def work(self, count: int = 1000, kind: str = "sdxl") -> list[str]:
        """Claim and finish so many jobs at most."""
        done: list[str] = []
        while len(done) < count and (claim := self.queues[kind].claim(new_token()).claim):
            job = payload.parse(claim.body)
            if claim.result is None:
                self.made.append(job.id)
                report = Report(_completed(job), job.user_id)
                self.queues[kind].remember(claim.token, job.id, report.record())
                assert self.callbacks.send(report.outcome, job.user_id).accepted
            self.queues[kind].ack(claim.token, job.id)
            done.append(job.id)
        return done

    def copy(self) -> dict[bytes, tuple[int, bytes]]:
        return {key: (max(0, self.redis.pttl(key)), self.redis.dump(key)) for key in self.redis.keys("*")}

    def set_back(self, copy: dict[bytes, tuple[int, bytes]]) -> None:
        self.redis.flushall()
        for key, (left, value) in copy.items():
            self.redis.restore(key, left, value)

    def lose_everything(self) -> None:
        self.set_back({})

    def states(self) -> set[str]:
        return {row["status"] for row in self.stack.jobs()}

    def close(self) -> None:
        for part in (*self.queues.values(), self.rows, self.callbacks):
            part.close()

    def _queue(self, kind: str) -> UpstashQueue:
        connection = SocketConnection(self.redis)
        return UpstashQueue(f"{kind}_queue", "", "", lease=LEASE, connection=connection, clock=lambda: self.now)


def _completed(job: payload.Job) -> Outcome:
    preset = PRESETS[job.type]
    path = f"{job.user_id}/{job.id}/0.{'png' if preset.media == 'image' else 'mp4'}"
    delivery = Delivery(0, job.type, path, "image/png", preset.size, preset.frames, seed=7, bytes=100)
    return Outcome(job.id, job.type, "completed", (delivery,))


def ago(minutes: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - minutes * 60))


@pytest.fixture
def office(stack: LocalStack) -> Iterator[Office]:
    with connect(stack.redis.port) as redis, closing(Office(stack, redis)) as office:
        yield office
