"""Redis comes back from an older copy of itself again and again, while workers work and a reconciler looks after it."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.chaos.history import Finding, check
from bench.chaos.lane import KINDS, Lane
from bench.chaos.nursery import Nursery
from workers.errors import Unreachable
from workers.kinds import open_callbacks, open_queue
from workers.local.redis import RedisServer
from workers.queue.upstash import UpstashQueue
from workers.settings import Settings
from workers.supabase.rows import JobRows
from workers.supervision.reconciler import Reconciler
from workers.tables import load_presets

PATIENCE = 2.0
"""Seconds for which a job counts as on its way; minutes in production."""

LAG = 0.3
"""Seconds by which a copy is older than what it replaces, at most."""

BETWEEN = (1.0, 3.0)
AT_A_TIME = 20
LIMIT = 600.0
INEVITABLE = frozenset({"stale"})
"""Where redis forgets a claim, its holder hears of it with the next beat only."""


@dataclass(frozen=True, slots=True)
class Failover:
    """What came of it. `forgotten` jobs were acknowledged and brought back by the reconciler."""

    acknowledged: int
    set_back: int
    forgotten: int
    findings: tuple[Finding, ...]


def fail_over(nursery: Nursery, jobs: int, *, reconciles: bool = True, seed: int = 0) -> Failover:
    """Main thread only: redis dies with the thread that starts it. Without a reconciler some jobs stay lost."""
    luck, times = random.Random(seed), 0
    with ExitStack() as opened:
        redis = opened.enter_context(RedisServer(appendonly=True))
        lane = opened.enter_context(Lane(nursery, redis))
        restored = opened.enter_context(_reconciling(lane)) if reconciles else []
        workers = [lane.start(kind) for kind in KINDS]
        lane.wait_until(lambda: all(worker.is_ready() for worker in workers), "ready for jobs")
        while len(lane.acknowledged) < jobs:
            for _ in range(AT_A_TIME):
                lane.submit(luck.choice(KINDS), "a lighthouse at dusk", num_images=1)
            with _paused(lane, KINDS if not times else ()):
                _set_back(lane, redis, luck)
            times += 1
            time.sleep(luck.uniform(*BETWEEN))
        lane.wait_until(lambda: _is_over(lane, reconciles), "drained after failovers", LIMIT)
        findings = [finding for finding in check(lane.history(anew=True)) if finding.rule not in INEVITABLE]
        return Failover(len(lane.acknowledged), times, len(restored), tuple(findings))


def _set_back(lane: Lane, redis: RedisServer, luck: random.Random) -> None:
    """Jobs that are acknowledged after the copy are gone."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        redis.copy(copy)
        lane.submit(luck.choice(KINDS), "a lighthouse at dusk", num_images=1)
        time.sleep(luck.uniform(0.0, LAG))
        redis.set_back(copy)


@contextmanager
def _paused(lane: Lane, kinds: Sequence[str]) -> Iterator[None]:
    """What is acknowledged meanwhile is certain to be forgotten: nobody is quick enough to finish it before."""
    settings = _settings(lane)
    with ExitStack() as opened:
        for kind in kinds:
            queue = opened.enter_context(closing(open_queue(kind, settings)))
            queue.pause()
            opened.callback(queue.resume)
        yield


def _settings(lane: Lane) -> Settings:
    return Settings(_env_file=None, **{name.lower(): value for name, value in lane.stack.env.items()})


def _is_over(lane: Lane, reconciles: bool) -> bool:
    return lane.is_settled() if reconciles else lane.is_empty()


class _Noting:
    """A queue as a reconciler sees it, which notes what was brought back."""

    def __init__(self, queue: UpstashQueue, restored: list[str]) -> None:
        self._queue, self._restored = queue, restored
        self.missing = queue.missing

    def restore(self, job_id: str, payload: str) -> bool:
        done = self._queue.restore(job_id, payload)
        self._restored += [job_id] * done
        return done


@contextmanager
def _reconciling(lane: Lane) -> Iterator[list[str]]:
    """A reconciler that looks every second; the jobs it brought back."""
    settings = _settings(lane)
    rows = JobRows(settings.supabase_url, settings.supabase_service_key.get_secret_value())
    kinds = {preset.type: preset.kind for preset in load_presets().values()}
    restored: list[str] = []
    with ExitStack() as opened:
        opened.callback(rows.close)
        queues = {kind: open_queue(kind, settings) for kind in KINDS}
        callbacks = open_callbacks(settings)
        for client in (*queues.values(), callbacks):
            opened.callback(client.close)
        noting = {kind: _Noting(queue, restored) for kind, queue in queues.items()}
        reconciler = Reconciler(rows, noting, callbacks, kinds=kinds, who="chaos", interval=1.0, patience=PATIENCE)
        opened.enter_context(_each_second(reconciler.reconcile))
        yield restored


@contextmanager
def _each_second(look: Callable[[], None]) -> Iterator[None]:
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(1.0):
            with suppress(Unreachable):
                look()

    thread = threading.Thread(target=run, name="reconcile")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
