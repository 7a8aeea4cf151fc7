"""Workers die at a named point, another process drains the queue, and the outside is asked what it saw."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue

from bench.chaos.history import Finding, History, check
from bench.chaos.lane import Lane
from bench.chaos.nursery import Nursery
from bench.chaos.scenes import SCENES, Scene

KILLED = -signal.SIGKILL
HURRY = 100.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one death. `recovery` in seconds from the death to the last job's end."""

    point: str
    kind: str
    findings: tuple[Finding, ...]
    resent: int
    leftovers: tuple[str, ...]
    recovery: float


def crash_once(lane: Lane, scene: Scene, kind: str) -> Trial:
    """Raises `AssertionError` when the point was not reached, `TimeoutError` when the queue does not drain."""
    lane.clear()
    for _ in range(scene.jobs):
        lane.submit(kind, scene.prompt, num_images=scene.images)
    for fault in scene.faults:
        lane.stack.double_faults.add(**fault)
    for point in scene.deaths:
        code = lane.start(kind, crash_at=point, hurry=HURRY, **scene.order).join(30.0)
        assert code == KILLED, f"the {kind} worker ended with {code} before it came to {point}"
    died = time.time()
    heir = lane.start(kind, hurry=HURRY)
    settled = lane.wait_until(lane.is_settled, f"drained after a death at {scene.point}")
    leftovers = lane.leftovers()
    heir.send(signal.SIGKILL)
    history = lane.history()
    findings = (*check(history), *_unexpected(history, "failed" if scene.refused else "completed"))
    resent = sum(len(words) - 1 for words in history.ends.values())
    return Trial(scene.point, kind, findings, resent, tuple(leftovers), settled - died)


def crash_often(nursery: Nursery, work: Iterable[tuple[Scene, str]], lanes: int) -> Iterator[Trial]:
    """Trials in parallel, each on a lane of its own, as they end."""
    with ExitStack() as opened:
        free: SimpleQueue[Lane] = SimpleQueue()
        for _ in range(lanes):
            free.put(opened.enter_context(Lane(nursery)))

        def one(scene: Scene, kind: str) -> Trial:
            lane = free.get()
            try:
                return crash_once(lane, scene, kind)
            finally:
                free.put(lane)

        pool = opened.enter_context(ThreadPoolExecutor(lanes))
        for future in [pool.submit(one, scene, kind) for scene, kind in work]:
            yield future.result()


def all_work(points: Sequence[str], trials: int) -> list[tuple[Scene, str]]:
    """So many trials of each point for each kind that has it, points interleaved."""
    return [(SCENES[point], kind) for _ in range(trials) for point in points for kind in SCENES[point].kinds]


def _unexpected(history: History, status: str) -> Iterator[Finding]:
    for job, words in history.ends.items():
        if words[-1].status != status:
            yield Finding(words[-1].status, job, f"not {status}")
