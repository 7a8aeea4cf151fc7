"""The world that tests run in: one real redis and one gateway for a session, emptied for every test."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import httpx
import pytest
from double import USER, client, service
from hypothesis import HealthCheck, settings
from support import TOKEN, RunningGateway

from workers import garbage
from workers.local.faults import Faults, Faulty
from workers.local.gateway import Gateway
from workers.local.redis import RedisServer
from workers.local.serving import LocalServer
from workers.local.stack import LocalStack

pytest_plugins = ["pod", "office", "queue_shop", "queue_worlds", "tests.workbench"]

# Thread pools of several processes on few cores wait for each other at every barrier; torch is not imported yet.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# There is no card: triton, which is not imported yet either, shall interpret kernels.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Every test file and its libraries are imported first, and stay.
garbage.search_seldom()


# The same examples in every run, however slow the machine: who changes something shall not fail for what was always so.
# `--hypothesis-profile=explore` tries others.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", settings.get_profile("explore"), derandomize=True)
settings.load_profile("steady")

LONGEST = ("test_queue_machine.py", "test_chaos.py", "tests/e2e")
"""Groups that come first, so that no core is left idle at the end."""

ALONE = ("test_death.py", "test_overlap.py", "test_stopped_worker.py")
"""Of e2e, those that share nothing with the long lives."""

APART = ("tests", "tests/semantic")
"""Folders whose files share nothing that takes long to make."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a long run or a volume stays in one process: a folder, or else a file. Said before xdist looks."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: [_group(item) != name for name in LONGEST])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """xdist writes its group behind a test's name, by which `--last-failed` would not find it again. The workers need
    it there; only where all reports come together they have a `node`."""
    if hasattr(report, "node"):
        report.nodeid = re.sub(r"@[^\]@:]*$", "", report.nodeid)


def pytest_collection_finish() -> None:
    """All tests' searches for garbage would walk through torch."""
    garbage.keep_what_is_there()


def _group(item: pytest.Item) -> str:
    folder, _, file = item.nodeid.partition("::")[0].rpartition("/")
    return file if folder in APART or file in ALONE else folder


def _run_gateway(redis: RedisServer) -> Iterator[RunningGateway]:
    faults, app = Faults(), Gateway(redis.url, TOKEN)
    with LocalServer(Faulty(app, faults), close=app.close) as server:
        yield RunningGateway(server.url, TOKEN, redis, faults, app)


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
def rest(gateway: RunningGateway) -> Iterator[httpx.Client]:
    """The gateway, asked with its token."""
    with gateway.client() as client:
        yield client


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


@pytest.fixture
def api(stack: LocalStack) -> Iterator[httpx.Client]:
    """The July double, asked with the service key."""
    with service(stack) as http:
        yield http


@pytest.fixture
def browser(stack: LocalStack) -> Iterator[httpx.Client]:
    """The July double, asked by a signed-in user."""
    with client(stack, stack.double.keys.user_token(USER), "anon") as http:
        yield http


@pytest.fixture
def newest_api(newest_stack: LocalStack) -> Iterator[httpx.Client]:
    """The double of the dialect `objects`, asked with the service key."""
    with service(newest_stack) as http:
        yield http
