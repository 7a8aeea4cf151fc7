"""The life of a worker slot as pure transitions: what happened, and when, decides what comes next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

DRAINED = 0
CONFIGURATION = frozenset({1, 64, 73})
UNREACHABLE = 75
MEANING = {
    DRAINED: "drained",
    1: "configuration, or an unexpected error",
    64: "configuration",
    70: "accelerator broken",
    71: "out of memory",
    72: "watchdog",
    73: "safety component missing or altered",
    UNREACHABLE: "queue unreachable",
}


class State(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    BREAKER_OPEN = "breaker open"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Pace:
    """Every duration of supervision, in seconds.

    A worker that crashed waits as long as `backoff` says, plus at most the share `jitter` of it. The table starts
    again after `healthy` seconds and a finished job. `crashes` of them within `window` open the breaker, which is
    tried again every `retry`. `first_beat` is what a worker may take to its first heartbeat, `drain` its time to
    end after a signal, `margin` what is added before it is killed, `orphan` the time that the worker of a dead
    supervisor may hold the slot's lock.
    """

    backoff: tuple[float, ...] = (1, 2, 5, 10, 30, 60, 120)
    jitter: float = 0.2
    healthy: float = 600.0
    crashes: int = 5
    window: float = 600.0
    retry: float = 600.0
    first_beat: float = 120.0
    drain: float = 25.0
    margin: float = 5.0
    orphan: float = 5.0
    tick: float = 1.0
    status: float = 60.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a slot stands. `due` is when to start it, None while a process lives or none shall.

    `failures` counts in the back-off table, `crashed` holds the times of crashes within the window, `tripped` lasts
    from an open breaker until the worker has proved healthy, `misconfigured` until it is ready for jobs.
    """

    state: State = State.BACKING_OFF
    since: float = 0.0
    due: float | None = 0.0
    starts: int = 0
    failures: int = 0
    crashed: tuple[float, ...] = ()
    tripped: bool = False
    misconfigured: bool = False


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process was started."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Its weights are loaded."""


@dataclass(frozen=True, slots=True)
class Exited:
    """It ended with this code (minus the signal that killed it), having finished so many jobs.

    `luck` between 0 and 1 says how much of the jitter is added to its wait.
    """

    code: int
    done: int = 0
    luck: float = 0.0


@dataclass(frozen=True, slots=True)
class Stopping:
    """The supervisor was asked to stop."""


Event = Spawned | Ready | Exited | Stopping


def next_state(slot: Standing, event: Event, now: float, pace: Pace) -> Standing:
    match event:
        case Spawned():
            return replace(slot, state=State.STARTING, since=now, due=None, starts=slot.starts + 1)
        case Ready() if slot.state is State.STARTING:
            return replace(slot, state=State.RUNNING, since=now, misconfigured=False)
        case Stopping() if slot.state in (State.STARTING, State.RUNNING):
            return replace(slot, state=State.DRAINING, since=now)
        case Stopping() if slot.state is not State.DRAINING:
            return _stopped(slot, now)
        case Exited() if slot.state is State.DRAINING:
            return _stopped(slot, now)
        case Exited():
            return _after_exit(slot, event, now, pace)
        case _:
            return slot


def _stopped(slot: Standing, now: float) -> Standing:
    return replace(slot, state=State.STOPPED, since=now, due=None)


def _after_exit(slot: Standing, event: Exited, now: float, pace: Pace) -> Standing:
    if _is_configuration(slot, event.code):
        return _waiting(replace(slot, state=State.BREAKER_OPEN, misconfigured=True), now, pace.retry)
    if slot.state is State.RUNNING and now - slot.since >= pace.healthy and event.done:
        slot = replace(slot, failures=0, crashed=(), tripped=False)
    if event.code == DRAINED and event.done:  # it made room for a fresh process by itself
        return _waiting(replace(slot, state=State.BACKING_OFF), now, 0.0)
    stretch = 1 + pace.jitter * event.luck
    if event.code != UNREACHABLE:
        slot = replace(slot, crashed=(*(at for at in slot.crashed if now - at < pace.window), now))
        if slot.tripped or len(slot.crashed) >= pace.crashes:
            return _waiting(replace(slot, state=State.BREAKER_OPEN, tripped=True), now, pace.retry * stretch)
    wait = pace.backoff[min(slot.failures, len(pace.backoff) - 1)]
    return _waiting(replace(slot, state=State.BACKING_OFF, failures=slot.failures + 1), now, wait * stretch)


def _is_configuration(slot: Standing, code: int) -> bool:
    """Python also ends with 1 on an unexpected error, so once the worker was ready a 1 counts as a crash."""
    return code in CONFIGURATION and not (code == 1 and slot.state is State.RUNNING)


def _waiting(slot: Standing, now: float, seconds: float) -> Standing:
    return replace(slot, since=now, due=now + seconds)
