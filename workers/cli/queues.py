"""What can be seen of a queue without claiming from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workers.kinds import KINDS, open_queue, open_veil, queue_of
from workers.queue.budget import Budget
from workers.queue.rest import RestConnection, understood
from workers.safety.veil import uncovered_result

if TYPE_CHECKING:
    from workers.claim import DeadEntry
    from workers.queue.upstash import UpstashQueue
    from workers.settings import Settings

TIMEOUT = 10.0
PAGE = 50
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Counts:
    """Jobs of one queue by state. `retry` are served before `waiting`; `parked` wait for their time. No job of a
    `paused` queue is served."""

    waiting: int
    retry: int
    in_flight: int
    parked: int
    dead: int
    paused: bool


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a job came to, as its worker wrote it down for the callback."""

    record: Mapping[str, Any]
    delivered: bool


class QueueView:
    """One queue, read by an operator. Every method raises `Unreachable`."""

    def __init__(self, kind: str, settings: Settings) -> None:
        self.kind, self.name = kind, queue_of(kind)
        self._settings = settings

    @cached_property
    def queue(self) -> UpstashQueue:
        return open_queue(self.kind, self._settings)

    @cached_property
    def _redis(self) -> RestConnection:
        url, token = self._settings.upstash_redis_rest_url, self._settings.upstash_redis_rest_token
        return RestConnection(url, token.get_secret_value(), timeout=TIMEOUT, budget=Budget())

    def counts(self) -> Counts:
        with understood():
            fences = self._redis.execute(("HVALS", f"{self.name}:inflight"))
            parked = sum(fence == "0" for fence in fences)
            return Counts(
                waiting=int(self._redis.execute(("LLEN", self.name))),
                retry=int(self._redis.execute(("LLEN", f"{self.name}:retry"))),
                in_flight=len(fences) - parked,
                parked=parked,
                dead=int(self._redis.execute(("LLEN", f"{self.name}:dead"))),
                paused=self._redis.execute(("EXISTS", f"{self.name}:paused")) == 1,
            )

    def remembered(self, job_id: str) -> Remembered | None:
        """Results are kept for a day."""
        with understood():
            record, delivered = self._redis.execute(("HMGET", f"{self.name}:result:{job_id}", "record", "delivered"))
            if not record:
                return None
            return Remembered(uncovered_result(open_veil(self._settings), json.loads(record)), delivered == "1")

    def progress(self, job_id: str) -> Mapping[str, Any]:
        """phase, step, steps, percent; empty while nobody works on the job."""
        with understood():
            text = self._redis.execute(("GET", f"progress:{job_id}"))
            return dict(json.loads(text)) if text else {}

    def dead(self) -> Iterator[DeadEntry]:
        """The newest first."""
        start = 0
        while page := self.queue.dead(start, PAGE):
            yield from page
            start += PAGE

    def is_held(self, job_id: str) -> bool:
        """Whether a worker has the job in hand."""
        return bool(self._redis.execute(("EXISTS", f"{self.name}:owner:{job_id}")))

    def forget(self, job_id: str) -> bool:
        """Whether a result was remembered, which it is no more."""
        return bool(self._redis.execute(("DEL", f"{self.name}:result:{job_id}")))

    def forget_user(self, user_id: str, jobs: Iterable[str], *, dry: bool = False) -> int:
        """What this queue holds of a user: results, given-up jobs, even such as cannot be read, and open jobs, which
        are withdrawn."""
        results = [job for job in jobs if self._redis.execute(("EXISTS", f"{self.name}:result:{job}"))]
        with understood():
            entries = self._redis.execute(("LRANGE", f"{self.name}:dead", 0, -1))
        theirs = [entry for entry in entries if user_id in entry.partition("\n")[2]]
        for job in () if dry else jobs:
            self._redis.execute(("SET", f"cancel:{job}", "1", "EX", DAY))
            self.forget(job)
        for entry in () if dry else theirs:
            self._redis.execute(("LREM", f"{self.name}:dead", 1, entry))
        return len(results) + len(theirs)

    def close(self) -> None:
        for client in ("queue", "_redis"):
            if client in self.__dict__:
                getattr(self, client).close()


@contextmanager
def views(settings: Settings, only: str | None = None) -> Iterator[list[QueueView]]:
    """The queues of every kind of worker, or of one."""
    with ExitStack() as closing:
        opened = [QueueView(kind, settings) for kind in KINDS if only in (None, kind)]
        for view in opened:
            closing.callback(view.close)
        yield opened
