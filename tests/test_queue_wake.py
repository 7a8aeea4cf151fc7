"""Listening for new jobs over the REST API, for as long as it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from queue_bench import LEASE, NAME, job, new_token
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send
from support import RunningGateway, wait_until

from workers import claiming
from workers.claim import ClaimReply
from workers.claiming import Claimer
from workers.local.serving import LocalServer
from workers.queue import wake
from workers.queue.budget import Budget
from workers.queue.upstash import UpstashQueue
from workers.queue.wake import WakeUps
from workers.stop import Stop
from workers.testing.queue import MemoryQueue
from workers.watch import Watch

POLL = 2.0
HOUR = 3600.0
EMPTY = ClaimReply(None, waiting=0, in_flight=0)


class Sleeper:
    """Counts how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


def listen(url: str, sleeper: Sleeper, **options: Any) -> WakeUps:
    wake_ups = WakeUps(NAME, url, options.pop("token", "local-rest-token"), poll=POLL, on_wake=sleeper.wake, **options)
    wake_ups.start()
    return wake_ups


@pytest.fixture
def queue(gateway: RunningGateway) -> Iterator[UpstashQueue]:
    with closing(UpstashQueue(NAME, gateway.url, gateway.token, lease=LEASE)) as queue:
        yield queue


def test_every_way_back_into_the_queue_wakes_who_listens(
    gateway: RunningGateway, queue: UpstashQueue, sleeper: Sleeper
) -> None:
    with closing(listen(gateway.url, sleeper)):
        wait_until(lambda: sleeper.woken == 1)
        queue.push(job())
        queue.claim("a")
        queue.release("a", counted=False)
        queue.claim("b")
        queue.expire(["b"])
        queue.claim("c")
        queue.bury("c", "given up")
        queue.requeue(queue.dead()[0].id)
        queue.resume()
        wait_until(lambda: sleeper.woken == 1 + 5)


def test_a_producers_own_announcement_wakes_too(gateway: RunningGateway, sleeper: Sleeper) -> None:
    with closing(listen(gateway.url, sleeper)), gateway.client() as producer:
        wait_until(lambda: sleeper.woken == 1)
        producer.post("/", json=["PUBLISH", f"wake:{NAME}", "b91f, with a comma"])
        wait_until(lambda: sleeper.woken == 2)


def test_a_claim_that_waits_is_made_at_once_when_a_job_is_announced(
    gateway: RunningGateway, queue: UpstashQueue
) -> None:
    stop = Stop()
    with closing(stop), closing(WakeUps(NAME, gateway.url, gateway.token, poll=HOUR, on_wake=stop.wake)) as wake_ups:
        wake_ups.start()
        wait_until(lambda: wake_ups.listening)
        claimer = Claimer(queue, stop, poll=HOUR, lease=LEASE, pace=wake_ups.pause_after)
        with closing(UpstashQueue(NAME, gateway.url, gateway.token, lease=LEASE)) as producer:
            threading.Timer(0.2, producer.push, [job()]).start()
            while claimer.next(lambda: None) is None:
                pass  # it would ask again in an hour


class Hours:
    """A clock on which only sleeping takes time, and the sleeper."""

    now, requested = 0.0, False

    def rest(self, seconds: float) -> bool:
        self.now += seconds
        return True


def test_a_worker_that_relies_on_announcements_never_counts_as_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    hours, moved = Hours(), []
    monkeypatch.setattr(claiming, "time", SimpleNamespace(monotonic=lambda: hours.now))
    claimer = Claimer(MemoryQueue(), hours, poll=POLL, lease=LEASE, pace=lambda reply, asked: wake.SLOW)
    for _ in range(3):
        claimer.next(lambda: moved.append(hours.now))
    assert hours.now == 3 * wake.SLOW
    longest = max(after - before for before, after in pairwise([0.0, *moved, hours.now]))
    assert longest < Watch(lambda: 0.0).deadline / 2


def test_a_stream_that_dies_is_opened_again_and_asked_after_at_once(
    own_gateway: RunningGateway, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "BACK_OFF", (0.05,))
    with closing(listen(own_gateway.url, sleeper)) as wake_ups:
        wait_until(lambda: sleeper.woken == 1)
        assert wake_ups.listening
        own_gateway.redis.kill()
        wait_until(lambda: not wake_ups.listening)
        own_gateway.redis.start()
        wait_until(lambda: sleeper.woken == 2)
        assert wake_ups.listening


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_gateway_that_is_away_for_a_while_is_tried_again(
    gateway: RunningGateway, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(wake, "BACK_OFF", (0.05,))
    gateway.faults.add("error", status=status, path="/subscribe/*", count=3)
    with closing(listen(gateway.url, sleeper)):
        wait_until(lambda: sleeper.woken == 1)


def test_a_stream_that_says_nothing_for_long_is_opened_anew(
    gateway: RunningGateway, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "QUIET", 0.1)
    with closing(listen(gateway.url, sleeper)):
        wait_until(lambda: sleeper.woken >= 3)


class Without:
    """A service that knows no subscriptions."""

    def __init__(self, answer: JSONResponse | StreamingResponse) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope, receive, send)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 405])
def test_without_subscriptions_the_worker_polls_as_ever(sleeper: Sleeper, status: int) -> None:
    with LocalServer(Without(JSONResponse({"error": "ERR unknown"}, status))) as server:
        wake_ups = listen(server.url, sleeper)
        wait_until(lambda: not wake_ups.running)
        assert wake_ups.pause_after(EMPTY, time.monotonic()) == POLL
    assert sleeper.woken == 0


def test_whoever_stops_listening_leaves_no_thread_behind(gateway: RunningGateway, sleeper: Sleeper) -> None:
    wake_ups = listen(gateway.url, sleeper)
    wait_until(lambda: wake_ups.listening)
    wake_ups.close()
    wait_until(lambda: not wake_ups.running)


def test_listening_costs_one_command_a_stream(gateway: RunningGateway, sleeper: Sleeper) -> None:
    budget, before = Budget(), gateway.app.commands
    with closing(listen(gateway.url, sleeper, budget=budget)):
        wait_until(lambda: sleeper.woken == 1)
    assert (budget.used, gateway.app.commands - before) == (1, 1)


def test_an_empty_claim_costs_one_command(gateway: RunningGateway, queue: UpstashQueue) -> None:
    queue.check()
    before = gateway.app.commands
    for _ in range(5):
        queue.claim(new_token())
    assert gateway.app.commands - before == 5
