"""Thousands of jobs through a network that loses, delays and refuses, while workers and redis are killed."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import valkey

from bench.chaos.history import Finding, check
from bench.chaos.lane import Lane
from bench.chaos.nursery import Child, Nursery
from workers.local.faults import Faults
from workers.local.redis import RedisServer

LEASE = 3.0
HURRY = 20.0
PRODUCERS = 12
COPIES = 3
"""Workers of each kind."""

AHEAD = 60
"""Jobs that may wait or be in flight."""

GAP = (0.5, 2.5)
"""Seconds between two blows."""

DRAIN_LIMIT = 600.0
PLAN_LIMIT = "ERR max requests limit exceeded. Limit: 500000, Usage: 500000."
WEATHER: Sequence[Mapping[str, Any]] = (
    {"kind": "lost_request", "rate": 0.04},
    {"kind": "lost_reply", "rate": 0.04},
    {"kind": "latency", "rate": 0.02, "seconds": 1.0},
    {"kind": "error", "rate": 0.01, "status": 503},
    {"kind": "error", "rate": 0.005, "status": 502, "html": True},
    {"kind": "error", "rate": 0.005, "status": 429, "retry_after": 1},
    {"kind": "hang", "rate": 0.002, "seconds": 2.0},
)
OF_THE_PLAN = {"kind": "error", "rate": 0.002, "status": 400, "text": PLAN_LIMIT}
JOBS: Sequence[tuple[str, str, Mapping[str, Any]]] = (
    *[("sdxl", "sdxl_image_fast", {"num_images": 1})] * 8,
    *[("sdxl", "sdxl_image_high", {"num_images": 3})] * 2,
    *[("wan", "image_fast", {})] * 6,
    *[("wan", "image7b_fast_enhanced", {})] * 3,
    ("wan", "video_fast", {"frame_num": 17}),
)


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of it. `failed` jobs were given up with a word to their users, `struck` counts faults by kind."""

    acknowledged: int
    refused: int
    completed: int
    failed: int
    resent: int
    findings: tuple[Finding, ...]
    leftovers: tuple[str, ...]
    struck: Mapping[str, int]
    blows: Mapping[str, int]
    seconds: float


class Crowd:
    """The workers, some of each kind, and what befalls them."""

    def __init__(self, lane: Lane, redis: RedisServer, luck: random.Random) -> None:
        self._lane, self._redis, self._luck = lane, redis, luck
        self._workers = [self._start(kind) for kind in ("sdxl", "wan") for _ in range(COPIES)]
        self.blows: Counter[str] = Counter()

    def strike(self) -> None:
        """One blow."""
        blow = self._luck.choice((self.kill, self.kill, self.freeze, self.restart_redis, self.forget_scripts))
        self.blows[blow.__name__] += 1
        blow()

    def revive(self) -> None:
        """What a supervisor does: a boot through this weather often fails."""
        self._workers = [pair if pair[1].code is None else self._start(pair[0]) for pair in self._workers]

    def kill(self) -> None:
        _, worker = self._luck.choice(self._workers)
        worker.send(signal.SIGKILL)

    def freeze(self) -> None:
        """For a shorter or a longer time than its lease."""
        _, worker = self._luck.choice(self._workers)
        worker.send(signal.SIGSTOP)
        time.sleep(self._luck.uniform(0.5, 1.5) * LEASE)
        worker.send(signal.SIGCONT)

    def restart_redis(self) -> None:
        self._redis.kill()
        time.sleep(self._luck.uniform(0.0, 1.0))
        self._redis.start()

    def forget_scripts(self) -> None:
        self._redis.send("SCRIPT FLUSH")

    def _start(self, kind: str) -> tuple[str, Child]:
        return kind, self._lane.start(kind, lease=LEASE, hurry=HURRY)


class Producers:
    """Threads that queue jobs until so many are acknowledged, never too many at once."""

    def __init__(self, lane: Lane, jobs: int, luck: random.Random) -> None:
        self._lane, self._luck = lane, luck
        self._left = jobs
        self._lock = threading.Lock()
        self.refused = 0

    def run(self) -> None:
        while self._take_one():
            while self._is_ahead():
                time.sleep(0.05)
            try:
                kind, job_type, config = self._luck.choice(JOBS)
                self._lane.submit(kind, "a lighthouse at dusk", job_type, **config)
            except httpx.HTTPError:
                with self._lock:
                    self._left += 1
                    self.refused += 1

    def _take_one(self) -> bool:
        with self._lock:
            wanted = self._left > 0
            self._left -= wanted
            return wanted

    def _is_ahead(self) -> bool:
        try:
            return self._lane.depth() > AHEAD
        except valkey.ConnectionError:
            return True


def storm(nursery: Nursery, jobs: int, *, seed: int = 0, blows: bool = True) -> Storm:
    """Main thread only: redis dies with the thread that starts it."""
    luck, began = random.Random(seed), time.monotonic()
    with ExitStack() as opened:
        redis = opened.enter_context(RedisServer(appendonly=True))
        lane = opened.enter_context(Lane(nursery, redis))
        weather(lane.stack.gateway_faults, *WEATHER, OF_THE_PLAN)
        weather(lane.stack.double_faults, *WEATHER)
        crowd, producers = Crowd(lane, redis, luck), Producers(lane, jobs, luck)
        with ThreadPoolExecutor(PRODUCERS) as pool:
            running = [pool.submit(producers.run) for _ in range(PRODUCERS)]
            _strike_while(running, crowd, luck if blows else None)
        lane.wait_until(lambda: _has_drained(lane, crowd), "drained after a storm", DRAIN_LIMIT)
        return _account(lane, crowd, producers, time.monotonic() - began)


def weather(faults: Faults, *kinds: Mapping[str, Any]) -> None:
    for kind in kinds:
        faults.add(**kind)


def _strike_while(running: Sequence[Future[None]], crowd: Crowd, luck: random.Random | None) -> None:
    while not all(future.done() for future in running):
        time.sleep(luck.uniform(*GAP) if luck else 0.1)
        crowd.revive()
        if luck:
            crowd.strike()
    for future in running:
        future.result()


def _has_drained(lane: Lane, crowd: Crowd) -> bool:
    crowd.revive()
    return lane.is_settled()


def _account(lane: Lane, crowd: Crowd, producers: Producers, seconds: float) -> Storm:
    history, struck = lane.history(), Counter[str]()
    for fault in (*lane.stack.gateway_faults.report(), *lane.stack.double_faults.report()):
        struck[fault["kind"]] += fault["struck"]
    states = Counter(history.rows[job] for job in history.acknowledged)
    return Storm(
        acknowledged=len(history.acknowledged),
        refused=producers.refused,
        completed=states["completed"],
        failed=states["failed"],
        resent=sum(len(words) - 1 for words in history.ends.values()),
        findings=tuple(check(history)),
        leftovers=tuple(lane.leftovers()),
        struck=dict(struck),
        blows=dict(crowd.blows),
        seconds=seconds,
    )
