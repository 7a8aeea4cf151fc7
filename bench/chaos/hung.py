"""Workers freeze for longer than their lease, another takes over, they thaw: what they do then must have no effect."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.chaos.crashes import HURRY, Task
from bench.chaos.history import Finding, check
from bench.chaos.lane import UNHURRIED, Lane
from bench.chaos.nursery import Child
from bench.chaos.scenes import OBJECTS, VOLUMES, Scene

POINTS = (
    "claim-unheard", "claimed", "parsed", "composed", "generating:2", "made", "announced", "handed-over", "encoded",
    "unsealed", "sealed", "between-uploads", "uploaded", "remembered", "callback-unheard", "accepted", "adopted",
)  # fmt: skip
"""Where a worker that holds a claim may freeze."""

AT_RANDOM = "at random"
GRACE = 0.3
"""Seconds in which a thawed worker goes on before its signs of life count."""

STEPS = {"steps": 10, "step_seconds": 0.02}
WORTH_OF_A_JOB = 0.6
"""Seconds that the slowed job takes, in which the random freezes fall."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """What came of one freeze. `took_over` in seconds from the freeze to the other worker's end of the job."""

    point: str
    findings: tuple[Finding, ...]
    took_over: float


def freeze_once(lane: Lane, task: Task, *, planted: bool = False) -> Freeze:
    """`planted` takes the fence out of the worker that freezes, to see whether that would be noticed."""
    lane.clear()
    point, kind = task.scene.deaths[0], task.kind
    lane.submit(kind, task.scene.prompt, num_images=task.scene.images)
    if point == AT_RANDOM:
        lane.stack.double_faults.add("latency", path=OBJECTS, seconds=0.1)
        first = lane.start(kind, painted=True, hurry=HURRY, planted=planted, **STEPS)
        _freeze_at_random(lane, first)
    else:
        first = lane.start(kind, crash_at=point, freezes=True, painted=True, hurry=HURRY, planted=planted, **STEPS)
        lane.wait_until(first.is_stopped, f"frozen at {point}")
    froze = time.time()
    lane.start(kind, volume=task.volume, painted=True, hurry=HURRY, lease=UNHURRIED)
    ended = lane.wait_until(lane.is_settled, f"taken over after a freeze at {point}")
    first.send(signal.SIGCONT)
    thawed = time.monotonic() + GRACE
    lane.wait_until(lambda: has_nothing_left(first, thawed), "done with what it had")
    return Freeze(point.partition(":")[0], tuple(check(lane.history())), ended - froze)


def has_nothing_left(worker: Child, since: float) -> bool:
    """Whether its last sign of life, not older than `since` on the monotonic clock, holds no claim."""
    beat = worker.beat
    return beat is not None and beat.monotonic > since and not beat.tokens and beat.job is None


def freezes_of(trials: int) -> Iterator[Task]:
    """So many freezes, half of them at the named points in turn, half at a random moment."""
    for number in range(trials):
        point = POINTS[number // 2 % len(POINTS)] if number % 2 else AT_RANDOM
        kind = ("sdxl", "wan")[number // 4 % 2]
        scene = Scene((point,), images=3 if kind == "sdxl" else 1)
        yield Task(scene, kind, VOLUMES[number // 2 % 2])


def _freeze_at_random(lane: Lane, worker: Child) -> None:
    """At any moment between the claim and the end, most of which is generating and uploading."""
    lane.wait_until(lambda: '"holds"' in worker.log.read_text() if worker.log.exists() else False, "claimed")
    time.sleep(random.uniform(0.0, WORTH_OF_A_JOB))
    worker.send(signal.SIGSTOP)
