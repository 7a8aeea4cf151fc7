"""The world that tests run in: one real redis and one gateway for a session, emptied for every test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from workers.local.faults import Faults, Faulty
from workers.local.gateway import Gateway
from workers.local.redis import RedisServer
from workers.local.serving import LocalServer
from workers.local.stack import LocalStack

TOKEN = "local-rest-token"


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway with the redis behind it. `faults` strike its requests until the test ends."""

    url: str
    token: str
    redis: RedisServer
    faults: Faults

    def client(self, **headers: str) -> httpx.Client:
        own = {"Authorization": f"Bearer {self.token}", **headers}
        return httpx.Client(base_url=self.url, headers=own, timeout=10, verify=False)


def _run_gateway(redis: RedisServer) -> Iterator[RunningGateway]:
    faults, app = Faults(), Gateway(redis.url, TOKEN)
    with LocalServer(Faulty(app, faults), close=app.close) as server:
        yield RunningGateway(server.url, TOKEN, redis, faults)


@pytest.fixture(scope="session")
def _session_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def _session_gateway(_session_redis: RedisServer) -> Iterator[RunningGateway]:
    yield from _run_gateway(_session_redis)


@pytest.fixture
def redis_server(_session_redis: RedisServer) -> RedisServer:
    """An empty redis, shared by the session: do not kill it."""
    _session_redis.flush()
    return _session_redis


@pytest.fixture
def gateway(redis_server: RedisServer, _session_gateway: RunningGateway) -> Iterator[RunningGateway]:
    """A gateway in front of an empty redis, without faults."""
    yield _session_gateway
    _session_gateway.faults.clear(seed=0)


@pytest.fixture
def own_gateway() -> Iterator[RunningGateway]:
    """A gateway whose redis belongs to this test, keeps what it acknowledged, and may be killed and started."""
    with RedisServer(appendonly=True) as redis:
        yield from _run_gateway(redis)


@pytest.fixture(scope="session")
def _session_stack(_session_redis: RedisServer) -> Iterator[LocalStack]:
    with LocalStack(redis=_session_redis) as stack:
        yield stack


@pytest.fixture
def stack(_session_stack: LocalStack) -> LocalStack:
    """Redis, gateway and July double, as new: no jobs, objects, callbacks or faults."""
    _session_stack.reset()
    return _session_stack


@pytest.fixture
def newest_stack(redis_server: RedisServer) -> Iterator[LocalStack]:
    """The stack whose callback speaks the dialect `objects`."""
    with LocalStack(dialect="objects", redis=redis_server) as stack:
        yield stack
