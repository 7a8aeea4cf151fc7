"""A process comes to life: settings, logs, signals, threads; then its loop runs in the main thread."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from workers import claiming, estimates, garbage, logs
from workers.card import gpu
from workers.card.turn import NoTurn, Turn
from workers.claiming import Claimer
from workers.delivery.dispatch import RELEASE_SECONDS, Dispatch
from workers.delivery.outbox import DAY, Outbox
from workers.delivery.parcel import Way
from workers.errors import Misconfigured, Unreachable
from workers.estimates import Estimates
from workers.kinds import (
    KINDS,
    make_encode,
    make_maker,
    open_callbacks,
    open_queue,
    open_storage,
    open_turn,
    open_veil,
    open_wake_ups,
)
from workers.known import known_settings
from workers.lease import THREAD_DIED, Leases
from workers.logs import describe, log
from workers.ops.events import counter_for
from workers.ops.meter import Meter, beats_of
from workers.provenance.marks import make_sign
from workers.queue.budget import Budget
from workers.queue.upstash import UpstashQueue
from workers.safety.guards import open_guards
from workers.safety.inspection import Inspection
from workers.settings import WRONG_VALUE, Settings
from workers.stop import Stop
from workers.supervision import heartbeat, ledger
from workers.supervision.process import take_lock
from workers.supervision.pulse import Vitals, each_second
from workers.supervision.slot import UNREACHABLE
from workers.supervision.wear import GIB, Ceilings, Wear, memory
from workers.tables import load_models, load_presets
from workers.volume import models_of
from workers.worker import Worker, Workplace

ROOT = Path(__file__).resolve().parent.parent
BEAT_TIMEOUT = 5.0
BEATS_PER_LEASE = 4.5
HOOK_TIMEOUT = 2.0


def prepare(kinds: Sequence[str], name: str) -> Settings:
    """Settings and logs, with everything that is missing said at once. Raises `Misconfigured`.

    `name` is the process's, for its log file.
    """
    known = known_settings()
    found = models_of(known.settings, load_models())
    missing = [problem for model in found if model.kind in kinds for problem in model.problems]
    if known.problems or missing:
        raise Misconfigured([*known.problems, *missing], exit_code=known.exit_code)
    settings = known.settings
    _open_logs(settings, name)
    return settings


def _open_logs(settings: Settings, name: str) -> None:
    file = settings.log_dir and settings.log_dir / f"{name}.log"
    try:
        logs.configure(
            fmt=settings.log_format,
            level=settings.log_level,
            secrets=settings.secrets,
            file=file,
            counters=counter_for(name, (preset.type for preset in load_presets().values() if preset.kind == name)),
        )
    except OSError as error:
        raise Misconfigured([f"LOG_DIR: {file} cannot be written: {error.strerror}."], exit_code=WRONG_VALUE) from None
    logs.catch_the_rest()


def run_worker(name: str) -> NoReturn:
    """One worker process, from its settings to its exit code. Main thread only."""
    garbage.search_seldom()
    os.environ.update(gpu.GROW_IN_PLACE | os.environ)  # torch reads it when it is imported
    try:
        settings = prepare([name], name)
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
    outbox = Outbox(settings.outbox, quota=round(settings.outbox_max_gb * GIB), veil=open_veil(settings))
    budget = Budget(settings.command_budget)
    queue = open_queue(name, settings, budget=budget)
    claiming.check(queue, stop)
    _forget_what_is_old(settings, outbox, queue)
    guards = open_guards(f"{name}@{settings.worker_name}", settings, KINDS[name].scorers)
    maker = make_maker(KINDS[name], settings, guards.gate)
    beats = open_queue(name, settings, timeout=BEAT_TIMEOUT, budget=budget)
    leases = Leases(beats, interval=settings.lease_seconds / BEATS_PER_LEASE)
    way = _way(open_queue(name, settings, budget=budget), settings, outbox, leases, guards.inspection)
    if heartbeat.supervisor() is not None:
        way = replace(way, note=ledger.writer(heartbeat.run_dir() / ledger.FOLDER, name))
    dispatch = Dispatch(way, on_room=stop.wake)
    claimer = _claimer(name, settings, open_queue(name, settings, budget=budget), stop)
    turn = open_turn(KINDS[name], settings)
    place = Workplace(
        maker=maker,
        claimer=claimer,
        queue=queue,
        leases=leases,
        dispatch=dispatch,
        outbox=outbox,
        stop=stop,
        turn=turn,
        poll=KINDS[name].poll,
        grace=max(0.0, settings.drain_seconds - RELEASE_SECONDS),
        step_limit=KINDS[name].step_limit,
        wear=_wear(settings),
        expected=Estimates(heartbeat.run_dir() / estimates.FILE),
        measure=_meter(name, settings, turn),
        settle=garbage.keep_what_is_there,
    )
    worker = Worker(place)
    leases.start(each_second(heartbeat.path_of(name), stop, _vitals(worker, place, turn, budget, settings)))
    dispatch.start()
    return worker.run()


def _vitals(worker: Worker, place: Workplace, turn: Turn | NoTurn, budget: Budget, settings: Settings) -> Vitals:
    """What is said of this worker each second."""
    return Vitals(
        worker=worker,
        leases=place.leases,
        dispatch=place.dispatch,
        claimer=place.claimer,
        budget=budget,
        model=place.maker.engine.model_name,
        busy=lambda: turn.held_for.seconds,
        card=functools.partial(gpu.held, gpu.pick_device(settings.device)),
        memory=memory,
    )


def _forget_what_is_old(settings: Settings, outbox: Outbox, queue: UpstashQueue) -> None:
    """At boot only: files that were delivered or that nobody came for, and entries of the dead list."""
    if swept := outbox.collect_garbage(queue.is_delivered, settings.keep_files_days * DAY):
        log.warning("outbox swept", folders=len(swept))
    if pruned := queue.prune_dead(time.time() - settings.keep_dead_days * DAY):
        log.info("dead list pruned", entries=pruned)


def _claimer(name: str, settings: Settings, queue: UpstashQueue, stop: Stop) -> Claimer:
    """Asks at its own pace, and at once when a job is announced."""
    poll, pace = KINDS[name].poll, None
    if settings.wake_ups:
        wake_ups = open_wake_ups(name, settings, on_wake=stop.wake, budget=queue.budget)
        wake_ups.start()
        pace = wake_ups.pause_after
    return Claimer(queue, stop, poll=poll, lease=settings.lease_seconds, pace=pace)


def _meter(name: str, settings: Settings, turn: Turn | NoTurn) -> Meter:
    others = [heartbeat.path_of(kind) for kind in KINDS if kind != name]
    return Meter(
        busy=lambda: turn.held_for.seconds,
        others=functools.partial(beats_of, others),
        peak=functools.partial(gpu.peak, gpu.pick_device(settings.device)),
        memory=memory,
    )


def _way(queue: UpstashQueue, settings: Settings, outbox: Outbox, leases: Leases, inspection: Inspection) -> Way:
    return Way(
        outbox=outbox,
        queue=queue,
        storage=open_storage(settings),
        callbacks=open_callbacks(settings),
        leases=leases,
        encode=make_encode(settings),
        sign=make_sign(settings),
        inspection=inspection,
    )


def _wear(settings: Settings) -> Wear:
    """When this process makes room for a fresh one: never where it runs alone, since nobody would start it."""
    if heartbeat.supervisor() is None:
        return Wear()
    ceilings = Ceilings(settings.recycle_jobs, round(settings.recycle_rss_gb * GIB))
    return Wear(ceilings, card=functools.partial(gpu.held, gpu.pick_device(settings.device)))
