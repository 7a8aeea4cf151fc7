"""The queue in memory and the real one behind its REST gateway, each with its own way to let time pass."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import pytest
import valkey
from queue_bench import LEASE, NAME, connect, run_down, socket_queue
from support import RunningGateway

from workers.local.redis import RedisServer
from workers.queue.upstash import UpstashQueue
from workers.testing.queue import MemoryQueue


class World(Protocol):
    """One queue, the time it lives in, and the side of the world that is not a worker."""

    def queue(self, *, take_from: Literal["tail", "head"] = "tail") -> Any: ...
    def pass_time(self, seconds: float) -> None: ...
    def withdraw(self, job_id: str) -> None: ...
    def progress(self, job_id: str) -> Any: ...
    def set_fence_back(self, fence: int) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._passed = 0.0
        self._queues = {end: MemoryQueue(lease=LEASE, take_from=end, clock=self._now) for end in ("tail", "head")}
        self._tail = self._queues["tail"]

    def queue(self, *, take_from: str = "tail") -> MemoryQueue:
        return self._queues[take_from]

    def pass_time(self, seconds: float) -> None:
        self._passed += seconds

    def withdraw(self, job_id: str) -> None:
        self._tail.withdrawn.add(job_id)

    def progress(self, job_id: str) -> Any:
        return self._tail.progress.get(job_id)

    def set_fence_back(self, fence: int) -> None:
        self._tail.fence = fence

    def _now(self) -> float:
        return time.time() + self._passed


class RestWorld:
    def __init__(self, gateway: RunningGateway) -> None:
        self._gateway = gateway
        self._redis = connect(gateway.redis.port)
        self._queues: list[UpstashQueue] = []

    def queue(self, *, take_from: Literal["tail", "head"] = "tail") -> UpstashQueue:
        queue = UpstashQueue(NAME, self._gateway.url, self._gateway.token, lease=LEASE, take_from=take_from)
        self._queues.append(queue)
        return queue

    def pass_time(self, seconds: float) -> None:
        run_down(self._redis, seconds)

    def withdraw(self, job_id: str) -> None:
        self._redis.set(f"cancel:{job_id}", "1", ex=86_400)

    def progress(self, job_id: str) -> Any:
        raw = self._redis.get(f"progress:{job_id}")
        return json.loads(raw) if raw else None

    def set_fence_back(self, fence: int) -> None:
        self._redis.set(f"{NAME}:fence", fence)

    def close(self) -> None:
        for part in (*self._queues, self._redis):
            part.close()


@pytest.fixture(params=["memory", "rest"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    rest = RestWorld(request.getfixturevalue("gateway"))
    yield rest
    rest.close()


@pytest.fixture
def queue(world: World) -> Any:
    return world.queue()


ENDINGS: dict[str, Callable[[Any, str], bool]] = {
    "ack": lambda queue, token: queue.ack(token, None),
    "release": lambda queue, token: queue.release(token, counted=True),
    "park": lambda queue, token: queue.park(token, 5.0, counted=True),
    "bury": lambda queue, token: queue.bury(token, "unreadable"),
    "remember": lambda queue, token: queue.remember(token, "some-job", {}),
}


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[valkey.Valkey]:
    with connect(redis_server.port) as client:
        yield client


@pytest.fixture
def direct(redis: valkey.Valkey) -> UpstashQueue:
    """The real queue without the REST API between."""
    return socket_queue(redis)
