"""A process comes to life: settings, logs, signals, threads; then its loop runs in the main thread."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from workers import heartbeat, logs
from workers.claiming import Claimer
from workers.dispatch import Dispatch
from workers.errors import Misconfigured, Unreachable
from workers.heartbeat import Heartbeat
from workers.keeper import Hooks
from workers.kinds import KINDS, make_encode, make_maker, open_callbacks, open_queue, open_storage, open_turn, queue_of
from workers.known import known_settings
from workers.lease import THREAD_DIED, Leases
from workers.logs import describe, log
from workers.outbox import Outbox
from workers.parcel import Way
from workers.process import Slot, take_lock
from workers.queue.budget import Budget
from workers.queue.upstash import UpstashQueue
from workers.settings import Settings, load_models, worker_environment
from workers.slot import UNREACHABLE, Pace
from workers.stop import Stop
from workers.supervisor import supervise
from workers.volume import models_of
from workers.worker import Worker, Workplace

ROOT = Path(__file__).resolve().parent.parent
BEAT_TIMEOUT = 5.0
BEATS_PER_LEASE = 4.5
HOOK_TIMEOUT = 2.0
LAST_SECONDS = 5.0


def prepare(kinds: Sequence[str]) -> Settings:
    """Settings and logs, with everything that is missing said at once. Raises `Misconfigured`."""
    known = known_settings()
    found = models_of(known.settings, load_models())
    missing = [problem for model in found if model.kind in kinds for problem in model.problems]
    if known.problems or missing:
        raise Misconfigured([*known.problems, *missing], exit_code=known.exit_code)
    settings = known.settings
    logs.configure(fmt=settings.log_format, level=settings.log_level, secrets=settings.secrets)
    return settings


def run_worker(name: str) -> NoReturn:
    """One worker process, from its settings to its exit code. Main thread only."""
    try:
        settings = prepare([name])
        _take_slot(name)
        stop = Stop(parent=heartbeat.supervisor()).install()
        code = _work(name, settings, stop)
        stop.ignore()
    except Misconfigured as error:
        code = complain(error)
    except Unreachable as error:
        log.error("queue unreachable", reason=str(error))
        code = UNREACHABLE
    except Exception as error:
        log.error("worker died", **describe(error))
        code = THREAD_DIED
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # the interpreter would wait for uploads that hang, and their claims are released already


def run_supervisor(only: str | None = None) -> int:
    """Both workers, or one of them, until asked to stop. Main thread only."""
    kinds = [only] if only else list(KINDS)
    try:
        settings = prepare(kinds)
    except Misconfigured as error:
        return complain(error)
    env = worker_environment(len(kinds))
    slots = [Slot(kind, (sys.executable, str(ROOT / f"{kind}_worker.py")), env) for kind in kinds]
    log.info("supervising", kinds=",".join(kinds), dialect=settings.callback_dialect, outbox=str(settings.outbox))
    return supervise(slots, hooks=_hooks(kinds, settings), pace=Pace(drain=settings.drain_seconds))


def complain(error: Misconfigured) -> int:
    """Say every problem on its own line; returns the exit code."""
    for problem in error.problems:
        print(f"error: {problem}", file=sys.stderr)
    return error.exit_code


def _take_slot(name: str) -> None:
    """A worker that runs alone holds its slot's lock for life, as a supervised one inherits it."""
    if heartbeat.supervisor() is None and take_lock(heartbeat.run_dir() / f"{name}.lock") is None:
        raise Misconfigured([f"Another {name} worker runs on this machine. Stop it, or set {heartbeat.RUN_DIR}."])


def _work(name: str, settings: Settings, stop: Stop) -> int:
    outbox = Outbox(settings.outbox)
    budget = Budget(settings.command_budget)
    queue = open_queue(name, settings, budget=budget)
    queue.check()
    if swept := outbox.sweep():
        log.warning("outbox swept", folders=len(swept))
    maker = make_maker(KINDS[name], settings)
    beats = open_queue(name, settings, timeout=BEAT_TIMEOUT, budget=budget)
    leases = Leases(beats, interval=settings.lease_seconds / BEATS_PER_LEASE)
    way = _way(open_queue(name, settings, budget=budget), settings, outbox, leases)
    dispatch = Dispatch(way, on_room=stop.wake)
    worker = Worker(
        Workplace(
            maker=maker,
            claimer=Claimer(queue, stop, poll=KINDS[name].poll, lease=settings.lease_seconds),
            queue=queue,
            leases=leases,
            dispatch=dispatch,
            outbox=outbox,
            stop=stop,
            turn=open_turn(KINDS[name], settings),
            poll=KINDS[name].poll,
            grace=settings.drain_seconds,
            step_limit=KINDS[name].step_limit,
        )
    )
    leases.start(_each_second(heartbeat.path_of(name), stop, lambda: _sign_of_life(worker, leases, dispatch)))
    dispatch.start()
    return worker.run()


def _way(queue: UpstashQueue, settings: Settings, outbox: Outbox, leases: Leases) -> Way:
    return Way(
        outbox=outbox,
        queue=queue,
        storage=open_storage(settings),
        callbacks=open_callbacks(settings),
        leases=leases,
        encode=make_encode(settings),
    )


def _each_second(path: Path, stop: Stop, sign_of_life: Callable[[], Heartbeat]) -> Callable[[], None]:
    """What the beating thread does beside beating: the heartbeat file, and the end of a main thread that hangs in
    foreign code while it should release its claims and go."""
    told: list[float] = []

    def tick() -> None:
        heartbeat.write(path, sign_of_life())
        if stop.now:
            told.append(time.monotonic())
        if told and time.monotonic() - told[0] > LAST_SECONDS:
            log.error("main thread hangs", exit_code=THREAD_DIED)
            os._exit(THREAD_DIED)

    return tick


def _sign_of_life(worker: Worker, leases: Leases, dispatch: Dispatch) -> Heartbeat:
    watch = worker.watch
    return Heartbeat(
        generation=heartbeat.generation(),
        pid=os.getpid(),
        phase=watch.current or ("idle" if worker.ready else "start"),
        deadline=watch.deadline,
        monotonic=time.monotonic(),
        job=worker.job_id,
        type=worker.job_type,
        tokens=leases.tokens,
        step=watch.done,
        total=watch.total,
        done=dispatch.delivered,
        failed=dispatch.failed,
    )


def _hooks(kinds: Sequence[str], settings: Settings) -> Hooks:
    """What the supervisor asks of the queues: their lengths, and to end the leases of a worker that died."""
    queues = {kind: open_queue(kind, settings, timeout=HOOK_TIMEOUT) for kind in kinds}

    def end_leases(kind: str, last: Heartbeat | None) -> None:
        if last is not None and last.tokens:
            log.info("leases ended", kind=kind, claims=queues[kind].expire(last.tokens))

    return Hooks(
        on_exit=end_leases,
        depths=lambda: {queue_of(kind): queue.waiting() for kind, queue in queues.items()},
    )
