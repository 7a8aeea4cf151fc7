"""Who waits how long when users are unequal: `python -m bench.scheduling`.

Hours of one busy card in simulated time, through the true claim script on a true redis: a few users queue a dozen
jobs at once, many come steadily, some seldom, and a few jobs are urgent. The same arrivals are served first in first
out beside it. With `--flood` one user queues hundreds of jobs, far beyond what a claim looks at: nothing but a limit
where jobs are queued helps against that.
"""

from __future__ import annotations

import heapq
import json
import random
import statistics
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from tests.queue_bench import connect, new_id, new_token, socket_queue
from workers.local.redis import RedisServer

SEED = 7
EPOCH = 1_752_545_550.0
HOURS = 4
SECONDS = {"sdxl_image_fast": 4.0, "sdxl_image_high": 6.5}
RANKS = {"sdxl_image_fast": 0, "sdxl_image_high": 1}
HIGH_SHARE = 0.3
LEASE = 3600.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """Users of one habit: each queues `burst` jobs at once, `every` so many seconds in the mean."""

    name: str
    users: int
    every: float
    burst: int = 1
    priority: float = 0.0


CROWDS = (
    Crowd("a dozen at once", users=4, every=900.0, burst=12),
    Crowd("steady", users=40, every=400.0),
    Crowd("seldom", users=40, every=3600.0),
    Crowd("urgent", users=4, every=1800.0, priority=5.0),
)
FLOOD = Crowd("flood", users=1, every=7200.0, burst=400)


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """A job, by the second at which it comes."""

    at: float
    id: str
    crowd: str
    user: str
    type: str
    priority: float

    def body(self) -> str:
        made = datetime.fromtimestamp(EPOCH + self.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {"id": self.id, "type": self.type, "user_id": self.user, "created_at": made}
        return json.dumps(fields | ({"priority": self.priority} if self.priority else {}))


Served = dict[tuple[str, str], list[float]]
"""Crowd and job type -> how long each job waited, in seconds."""

Line = tuple[Callable[[Arrival], object], Callable[[float], Arrival | None]]
"""How a job joins the line, and how the next one is taken at a time."""


def arrivals(crowds: Iterable[Crowd]) -> list[Arrival]:
    chance = random.Random(SEED)
    found = []
    for crowd in crowds:
        for number in range(crowd.users):
            at = 0.0
            while (at := at + chance.expovariate(1 / crowd.every)) < HOURS * 3600:
                for _ in range(crowd.burst):
                    job_type = "sdxl_image_high" if chance.random() < HIGH_SHARE else "sdxl_image_fast"
                    found.append(Arrival(at, new_id(), crowd.name, f"{crowd.name}-{number}", job_type, crowd.priority))
    return sorted(found)


def serve(coming: Sequence[Arrival], line: Line) -> Served:
    """One card takes job after job until all are made."""
    push, take = line
    waited: Served = defaultdict(list)
    waiting, now = deque(coming), 0.0
    while True:
        while waiting and waiting[0].at <= now:
            push(waiting.popleft())
        job = take(now)
        if job is not None:
            waited[job.crowd, job.type].append(now - job.at)
            now += SECONDS[job.type]
        elif waiting:
            now = waiting[0].at
        else:
            return waited


def first_in_first_out() -> Line:
    line: list[Arrival] = []
    return (lambda job: heapq.heappush(line, job)), (lambda now: heapq.heappop(line) if line else None)


def scheduled(redis: RedisServer) -> Line:
    now = [EPOCH]
    queue = socket_queue(connect(redis.port), lease=LEASE, ranks=RANKS, clock=lambda: now[0])
    jobs: dict[str, Arrival] = {}

    def push(job: Arrival) -> None:
        jobs[job.id] = job
        queue.push(job.body())

    def take(at: float) -> Arrival | None:
        now[0] = EPOCH + at
        claim = queue.claim(new_token()).claim
        if claim is None:
            return None
        job = jobs[json.loads(claim.body)["id"]]
        queue.ack(claim.token, job.id)
        return job

    return push, take


def table(plain: Served, ours: Served, crowds: Sequence[Crowd]) -> Table:
    title = f"Seconds waited, {HOURS} h of one card: first in first out → scheduled"
    shown = Table("user", "type", "jobs", "mean", "p50", "p95", "longest", title=title)
    names = [crowd.name for crowd in crowds]
    for group in sorted(plain, key=lambda group: (names.index(group[0]), group[1])):
        pairs = zip(_figures(plain[group]), _figures(ours[group]), strict=True)
        shown.add_row(*group, str(len(ours[group])), *(f"{a:5.0f} → {b:.0f}" for a, b in pairs))
    return shown


def _figures(waits: Sequence[float]) -> tuple[float, ...]:
    cuts = statistics.quantiles(waits, n=20) if len(waits) > 1 else [waits[0]] * 19
    return statistics.fmean(waits), statistics.median(waits), cuts[18], max(waits)


def main() -> None:
    crowds = (*CROWDS, FLOOD) if "--flood" in sys.argv else CROWDS
    coming = arrivals(crowds)
    with RedisServer() as redis:
        ours = serve(coming, scheduled(redis))
    screen = Console()
    screen.print(table(serve(coming, first_in_first_out()), ours, crowds))
    busy = sum(SECONDS[job.type] for job in coming)
    screen.print(f"{len(coming)} jobs, {busy / 3600:.2f} h of work")


if __name__ == "__main__":
    main()
