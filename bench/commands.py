"""What the workers cost in billed commands, by the gateway's own count: `python -m bench.commands [--seconds 150]`.

A true worker process with an engine that only waits, against the local stack: idle, idle while it hears of new jobs,
and busy. From these follows what any number of cards is billed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from workers.cli.small import write_volume
from workers.kinds import KINDS
from workers.local.stack import LocalStack
from workers.supervision import heartbeat
from workers.testing.fakes import FakeEngine, no_objections

ROOT = Path(__file__).resolve().parent.parent
DAY = 86_400
PRICE = 0.20 / 100_000
"""Dollars for a command, as Upstash charges by the command in November 2026."""

TYPE = "sdxl_image_fast"
STEPS = 10
JOBS = 30
JOB_SECONDS = 1.0
BEATS_A_DAY = DAY / 10
SECONDS_A_JOB = {"sdxl": 4.0, "wan": 30.0}
CARDS = (1, 10, 100, 1000)


@dataclass(frozen=True, slots=True)
class Cost:
    """Commands: of one idle worker a day, polling and listening, and of one job without its beats."""

    polling: float
    listening: float
    job: float


def measure(seconds: float) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        write_volume(Path(folder) / "models")
        return Cost(
            polling=_idle(Path(folder), seconds, wake_ups=False),
            listening=_idle(Path(folder), seconds, wake_ups=True),
            job=_busy(Path(folder)),
        )


def _idle(folder: Path, seconds: float, *, wake_ups: bool) -> float:
    """Commands a day of a worker that waits for jobs; one that listens has heard of one before."""
    with LocalStack() as stack, _worker(folder, stack, wake_ups=wake_ups):
        _wait_until_idle(folder)
        job = stack.submit(TYPE, "a red bicycle", num_images=1)
        _publish(stack)
        stack.wait_for(job)
        time.sleep(15.0)  # July's receiver is told twice, the second time after ten seconds
        before, started = stack.commands, time.monotonic()
        time.sleep(seconds)
        return (stack.commands - before) / (time.monotonic() - started) * DAY


def _busy(folder: Path) -> float:
    with LocalStack() as stack:
        jobs = [stack.submit(TYPE, "a red bicycle", num_images=1) for _ in range(JOBS)]
        before, started = stack.commands, time.monotonic()
        with _worker(folder, stack, wake_ups=False):
            for job in jobs:
                stack.wait_for(job)
            time.sleep(15.0)
            beats = (time.monotonic() - started) / 10
            return (stack.commands - before - beats) / JOBS


def _wait_until_idle(folder: Path) -> None:
    """Ready, and told at least once that nothing waits."""
    while (beat := heartbeat.read(folder / "run" / "sdxl.heartbeat")) is None or beat.waiting is None:
        time.sleep(0.1)
    time.sleep(2 * KINDS["sdxl"].poll)


def _publish(stack: LocalStack) -> None:
    headers = {"Authorization": f"Bearer {stack.env['UPSTASH_REDIS_REST_TOKEN']}"}
    httpx.post(stack.gateway.url, json=["PUBLISH", "wake:sdxl_queue", "1"], headers=headers).raise_for_status()


@contextmanager
def _worker(folder: Path, stack: LocalStack, *, wake_ups: bool) -> Iterator[None]:
    places = {"MODEL_ROOT": folder / "models", "OUTBOX_DIR": folder / "outbox", heartbeat.RUN_DIR: folder / "run"}
    env = os.environ | stack.env | {name: str(place) for name, place in places.items()}
    env |= {"OMP_NUM_THREADS": "1", "DEVICE": "cpu", "WAKE_UPS": str(wake_ups), "WATERMARK": "false"}
    command = [sys.executable, "-m", "bench.commands", "--worker"]
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def _be_a_worker() -> None:
    from workers.boot import run_worker

    def engine(_: object) -> FakeEngine:
        return FakeEngine(JOB_SECONDS / STEPS, STEPS)

    KINDS["sdxl"] = replace(KINDS["sdxl"], engine=engine, scorers=no_objections)
    run_worker("sdxl")


def bill(cost: Cost) -> Table:
    table = Table("cards", "idle, polling", "idle, listening", "busy", title="Commands a day (dollars in 30 days)")
    polling = cost.polling + DAY / KINDS["wan"].poll
    busy = sum(cost.job * DAY / seconds + BEATS_A_DAY for seconds in SECONDS_A_JOB.values())
    for cards in CARDS:
        a_day = (cards * polling, cards * 2 * cost.listening, cards * busy)
        table.add_row(f"{cards:,}", *(f"{count:,.0f} ({count * 30 * PRICE:,.0f} $)" for count in a_day))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0, help="how long each idle worker is watched")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return _be_a_worker()
    cost = measure(given.seconds)
    screen = Console()
    screen.print(f"an idle worker that polls: {cost.polling:,.0f} commands a day")
    screen.print(f"an idle worker that listens: {cost.listening:,.0f} commands a day")
    screen.print(f"one job: {cost.job:.1f} commands, and a beat every ten seconds for all jobs of a worker")
    screen.print(bill(cost))
    return None


if __name__ == "__main__":
    main()
