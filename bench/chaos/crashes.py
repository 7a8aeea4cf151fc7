"""Workers die at a named point, another process drains the queue, and the outside is asked what it saw."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.chaos.history import Finding, History, check
from bench.chaos.lane import LEASE, LIMIT, UNHURRIED, Lane
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


@dataclass(frozen=True, slots=True)
class Task:
    """One trial to come. The heir works on the dead process's volume, the `outbox`, or `elsewhere`."""

    scene: Scene
    kind: str
    volume: str


def crash_once(lane: Lane, task: Task, *, seen: bool = False) -> Trial:
    """Where a death is `seen`, as by a supervisor, leases end with it, and last too long to end before."""
    scene, kind = task.scene, task.kind
    lane.clear()
    for _ in range(scene.jobs):
        lane.submit(kind, scene.prompt, num_images=scene.images)
    for fault in scene.faults:
        lane.stack.double_faults.add(**fault)
    findings = [finding for point in scene.deaths for finding in _die(lane, kind, point, scene, seen=seen)]
    died = time.time()
    heir = lane.start(kind, volume=task.volume, hurry=HURRY, lease=UNHURRIED if seen else LEASE)
    settled, leftovers = died, []
    try:
        settled = lane.wait_until(lane.is_settled, f"drained after a death at {scene.point}")
        lane.wait_until(lambda: not lane.files(task.volume), f"cleaned up after a death at {scene.point}")
        leftovers = lane.leftovers()
    except TimeoutError as error:
        findings.append(Finding("not drained", "", str(error)))
    heir.send(signal.SIGKILL)
    history = lane.history()
    findings += [*check(history), *_unexpected(history, "failed" if scene.refused else "completed")]
    resent = sum(len(words) - 1 for words in history.ends.values())
    return Trial(scene.point, kind, tuple(findings), resent, tuple(leftovers), settled - died)


def tasks_of(points: Sequence[str], trials: int) -> list[Task]:
    """So many trials of each point, both kinds and volumes in turn where it has both."""
    return [task for point in points for task in itertools.islice(_turns(SCENES[point]), trials)]


def _turns(scene: Scene) -> Iterator[Task]:
    return (
        Task(scene, kind, volume) for volume, kind in itertools.cycle(itertools.product(scene.volumes, scene.kinds))
    )


def _die(lane: Lane, kind: str, point: str, scene: Scene, *, seen: bool) -> Iterator[Finding]:
    order = {"lease": UNHURRIED if seen else LEASE, **scene.order}
    code = lane.start(kind, crash_at=point, hurry=HURRY, **order).join(LIMIT)
    if seen:
        lane.end_leases()
    if code != KILLED:
        yield Finding("not reached", "", f"the {kind} worker ended with {code} before it came to {point}")


def _unexpected(history: History, status: str) -> Iterator[Finding]:
    for job, words in history.ends.items():
        if words[-1].status != status:
            yield Finding(words[-1].status, job, f"not {status}")
