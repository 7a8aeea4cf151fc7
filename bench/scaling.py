"""How the queue behaves with many jobs and many workers: `python -m bench.scaling [--jobs 100000] [--workers 200]`.

First one client claims while more and more jobs wait and are in work: nearly all of what it waits for is the script.
Then all workers empty the queue together. Both go over sockets, without the REST service's own latency.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import valkey
from rich.console import Console
from rich.table import Table

from tests.queue_bench import NAME, connect, id_of, new_id, new_token, socket_queue
from workers.claim import Beat
from workers.delivery.report import Report
from workers.job import Delivery, Outcome
from workers.local.redis import RedisServer

SEED = 7
RANKS = {"sdxl_image_fast": 0, "sdxl_image_high": 1}
SAMPLES = 2000
WAITING = (100, 1_000, 10_000, 100_000)
HELD = (0, 200, 2_000, 8_000)
USERS = 500
HEAVY = "heavy"
HEAVY_SHARE = 0.5
PROCESSES = 4
COMMANDS = 4
"""A job's commands here: claim, one beat, remember, ack."""

ACCOUNT = 1500
"""Bytes of what a result says about its making."""

LEASE = 3600.0
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Took:
    """One claim: who made it, which job it was, how many waited, when it ended and how long it took in seconds."""

    worker: int
    job: int
    waiting: int
    ended: float
    seconds: float


def fill(redis: valkey.Valkey, jobs: int, size: int) -> None:
    """Jobs of about so many bytes, numbered, half of them one user's."""
    chance = random.Random(SEED)
    padding = "a lighthouse at dusk ".ljust(max(0, size - 220), ".")

    def body(number: int) -> str:
        user = HEAVY if chance.random() < HEAVY_SHARE else f"user-{chance.randrange(USERS)}"
        fields = {"id": new_id(), "type": chance.choice(list(RANKS)), "user_id": user, "number": number}
        return json.dumps(fields | {"created_at": "2025-07-15T02:12:30.489Z", "prompt": padding})

    for start in range(0, jobs, BATCH):
        redis.lpush(NAME, *map(body, range(start, min(jobs, start + BATCH))))


def script_times(redis: valkey.Valkey, waiting: int, held: int, size: int) -> list[float]:
    """What each of many claims took one client, in milliseconds."""
    redis.flushall()
    queue = socket_queue(redis, lease=LEASE, ranks=RANKS)
    fill(redis, waiting + held, size)
    for _ in range(held):
        queue.claim(new_token())
    times = []
    for _ in range(SAMPLES):
        token, started = new_token(), time.perf_counter()
        claim = queue.claim(token).claim
        times.append((time.perf_counter() - started) * 1000)
        queue.ack(token, None)
        redis.lpush(NAME, claim.body)
    return times


def memory(redis: valkey.Valkey) -> float:
    """Bytes that a finished job of six pictures leaves in redis for a day."""
    redis.flushall()
    queue = socket_queue(redis, ranks=RANKS)
    fill(redis, SAMPLES, 200)
    before = redis.info("memory")["used_memory_dataset"]
    while claim := queue.claim(new_token()).claim:
        job_id, user = id_of(claim.body), "11111111-1111-4111-8111-111111111111"
        places = [f"{user}/{job_id}/{index}.png" for index in range(6)]
        made = [Delivery(i, "sdxl_image_fast", place, "image/png", (1024, 1024), 1, i, 10**6)
                for i, place in enumerate(places)]  # fmt: skip
        outcome = Outcome(job_id, "sdxl_image_fast", "completed", tuple(made), metadata={"prompt": "x" * ACCOUNT})
        queue.remember(claim.token, job_id, Report(outcome, user).record())
        queue.ack(claim.token, job_id)
    return (redis.info("memory")["used_memory_dataset"] - before) / SAMPLES


def work(port: int, workers: Sequence[int]) -> list[Took]:
    """These workers, each with a connection of its own, until the queue is empty."""
    took: list[Took] = []
    threads = [threading.Thread(target=_drain, args=(port, worker, took)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def _drain(port: int, worker: int, took: list[Took]) -> None:
    with closing(socket_queue(connect(port), lease=LEASE, ranks=RANKS)) as queue:
        while True:
            token, started = new_token(), time.perf_counter()
            reply = queue.claim(token)
            seconds = time.perf_counter() - started
            if reply.claim is None:
                return
            job_id, number = id_of(reply.claim.body), json.loads(reply.claim.body)["number"]
            queue.beat([Beat(token, job_id, {"step": 1, "steps": 25})])
            queue.remember(token, job_id, {"assets": []})
            queue.ack(token, job_id)
            took.append(Took(worker, number, reply.waiting, started + seconds, seconds))


def drain(redis: valkey.Valkey, port: int, jobs: int, workers: int, size: int) -> tuple[list[Took], float]:
    """All workers on all jobs; every claim, and the seconds it took in all."""
    redis.flushall()
    fill(redis, jobs, size)
    shares = [range(first, workers, PROCESSES) for first in range(PROCESSES)]
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        started = time.perf_counter()
        took = [one for part in pool.map(work, [port] * PROCESSES, shares) for one in part]
        return took, time.perf_counter() - started


def script_table(redis: valkey.Valkey, size: int) -> Table:
    table = Table("waiting", "in work", "p50", "p99", "longest", title=f"One client's claim, ms ({size} B a job)")
    for waiting, held in [*((waiting, 200) for waiting in WAITING), *((WAITING[-1], held) for held in HELD)]:
        times = script_times(redis, waiting, held, size)
        p50, p99 = percentiles(times)
        table.add_row(f"{waiting:,}", f"{held:,}", f"{p50:.2f}", f"{p99:.2f}", f"{max(times):.2f}")
    return table


def drain_table(took: Sequence[Took], jobs: int) -> Table:
    table = Table("still waiting", "claims", "p50", "p99", title="A claim as the workers see it, ms")
    for tenth in range(9, -1, -1):
        some = [one.seconds * 1000 for one in took if tenth <= 10 * one.waiting / jobs < tenth + 1]
        p50, p99 = percentiles(some)
        table.add_row(f"{tenth * jobs // 10:,} and more", f"{len(some):,}", f"{p50:.1f}", f"{p99:.1f}")
    return table


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--bytes", type=int, default=2000)
    given = parser.parse_args()
    screen = Console()
    with RedisServer() as server, connect(server.port) as redis:
        screen.print(script_table(redis, given.bytes))
        took, seconds = drain(redis, server.port, given.jobs, given.workers, given.bytes)
        left = memory(redis)
    assert len(took) == given.jobs, f"{given.jobs - len(took)} jobs were not served"
    screen.print(drain_table(took, given.jobs))
    screen.print(f"{given.workers} workers, {given.jobs:,} jobs: {given.jobs / seconds:,.0f} jobs a second,")
    screen.print(f"{COMMANDS * given.jobs / seconds:,.0f} commands a second; each job once")
    each = Counter(one.worker for one in took).values()
    screen.print(f"jobs a worker: {min(each)} to {max(each)}, {statistics.median(each):.0f} in the middle")
    screen.print(f"a finished job of six pictures leaves {left:,.0f} bytes for a day")
    late = [place - one.job for place, one in enumerate(sorted(took, key=lambda one: one.ended))]
    screen.print(f"a job was served {max(late)} places later than it came at most, {percentiles(late)[1]:.0f} at p99")


if __name__ == "__main__":
    main()
