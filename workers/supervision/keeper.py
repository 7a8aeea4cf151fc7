"""One slot with its process: `workers.supervision.slot` decides what comes next, here it is done to a real process."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from workers.logs import describe, log
from workers.supervision import heartbeat, process
from workers.supervision.heartbeat import Heartbeat
from workers.supervision.process import Child, Slot
from workers.supervision.slot import MEANING, Event, Exited, Pace, Ready, Spawned, Standing, State, Stopping, next_state

LOADING = frozenset({"", "start", "load", "convert", "warm_up"})
CANNOT_RUN = 64
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class View:
    """A slot at one moment. `retry_in` and `up` in seconds, None where it is not waiting or has no process.

    `loaded` since its models are: it takes jobs. `misconfigured` while only an operator can help.
    """

    name: str
    state: State
    pid: int | None
    loaded: bool
    up: float | None
    retry_in: float | None
    restarts: int
    misconfigured: bool
    beat: Heartbeat | None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the composition root knows and supervision does not. Each call returns within a few seconds.

    `on_exit(slot, last heartbeat)` follows the death of a worker, so that its claims end at once. `may_start(slot)`
    says whether the card has room. `depths` gives the queues' lengths for the status line. `show` is given all slots
    about once a second.
    """

    on_exit: Callable[[str, Heartbeat | None], None] = lambda _name, _beat: None
    may_start: Callable[[str], bool] = lambda _name: True
    depths: Callable[[], Mapping[str, int]] = dict
    show: Callable[[Sequence[View]], None] = lambda _views: None


def guarded(hook: Callable[..., Answer], *arguments: object) -> Answer | None:
    """Call into the composition root; a failure there is logged and None, never the end of supervision."""
    try:
        return hook(*arguments)
    except Exception as error:
        log.warning("hook failed", **describe(error))
        return None


class Keeper:
    """One slot with its lock, its process and the last heartbeat. `tick` is called about once a second."""

    def __init__(self, slot: Slot, hooks: Hooks, pace: Pace, run_dir: Path) -> None:
        self.name = slot.name
        self.standing = Standing()
        self.killed_in_drain = False
        self._slot, self._hooks, self._pace, self._run_dir = slot, hooks, pace, run_dir
        self._lock_path = run_dir / f"{slot.name}.lock"
        self._beat_path = run_dir / f"{slot.name}.heartbeat"
        self._lock: int | None = None
        self._locked_out_since: float | None = None
        self._child: Child | None = None
        self._started = 0.0
        self._killed = False
        self._beat: Heartbeat | None = None
        self._done_before = 0

    @property
    def idle(self) -> bool:
        return self._child is None

    def tick(self, now: float) -> None:
        """Bury what is dead, watch what lives, start what is due: a worker that made room has its heir at once."""
        if self._child is not None and (code := self._child.ended()) is not None:
            self._bury(code, now)
        if self._child is not None:
            self._watch(self._child, now)
        elif self.standing.due is not None and now >= self.standing.due and self._may_start(now):
            self._start(now)

    def stop(self, now: float) -> None:
        """Ask the worker to drain; asked again, it hands back its jobs."""
        self._move(Stopping(), now)
        if self._child is not None:
            self._child.send(signal.SIGTERM)

    def view(self, now: float) -> View:
        standing, child = self.standing, self._child
        return View(
            name=self.name,
            state=standing.state,
            pid=child.pid if child else None,
            loaded=child is not None and standing.state is State.RUNNING,
            up=now - self._started if child else None,
            retry_in=None if child or standing.due is None else max(0.0, standing.due - now),
            restarts=max(0, standing.starts - 1),
            misconfigured=standing.misconfigured,
            beat=self._beat,
        )

    def status(self, now: float) -> dict[str, Any]:
        """The slot in a few words, for people and scripts."""
        beat, child = self._beat, self._child
        fields = {
            "state": str(self.standing.state),
            "pid": child and child.pid,
            "phase": beat and beat.phase,
            "type": beat and beat.type,
            "percent": beat and beat.percent,
            "done": self._done_before + (beat.done if beat else 0),
            "up": round(now - self._started) if child else None,
            "restarts": max(0, self.standing.starts - 1),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _may_start(self, now: float) -> bool:
        return self._is_locked(now) and guarded(self._hooks.may_start, self.name) is not False

    def _is_locked(self, now: float) -> bool:
        if self._lock is None:
            self._lock = process.take_lock(self._lock_path)
            if self._lock is None:
                self._wait_for_lock(now)
            else:
                self._end_leases_of_a_former_life()
        return self._lock is not None

    def _wait_for_lock(self, now: float) -> None:
        """Another life of this slot goes on. An orphan that will not end is killed: one copy, but one at least."""
        if self._locked_out_since is None:
            self._locked_out_since = now
            log.warning("another copy is still alive, waiting", slot=self.name)
        patience = self._pace.orphan
        if now - self._locked_out_since >= patience and process.is_orphaned(self._lock_path):
            beat = heartbeat.read(self._beat_path)
            if beat is not None:
                log.warning("killing an orphan", slot=self.name, pid=beat.pid)
                process.send_group(beat.pid, signal.SIGKILL)

    def _end_leases_of_a_former_life(self) -> None:
        """A worker with a generation held this lock through its supervisor: whoever gets the lock knows it dead."""
        left = heartbeat.read(self._beat_path)
        if left is not None and left.generation:
            guarded(self._hooks.on_exit, self.name, left)
        self._beat_path.unlink(missing_ok=True)

    def _start(self, now: float) -> None:
        self._beat, self._killed, self._started = None, False, now
        generation = self.standing.starts + 1
        try:
            self._child = process.spawn(self._slot, generation=generation, run_dir=self._run_dir, lock=self._lock)
        except OSError as error:
            log.error("worker cannot be started", slot=self.name, **describe(error))
            self._move(Exited(CANNOT_RUN), now)
        else:
            self._move(Spawned(), now)
            log.info("worker started", slot=self.name, pid=self._child.pid, generation=generation)

    def _watch(self, child: Child, now: float) -> None:
        self._hear()
        if self.standing.state is State.STARTING and self._beat and self._beat.phase not in LOADING:
            self._move(Ready(), now)
            log.info("worker ready", slot=self.name, pid=child.pid, seconds=round(now - self._started, 1))
        reason = self._reason_to_kill(now)
        if reason and not self._killed:
            log.error(
                "killing worker", slot=self.name, pid=child.pid, reason=reason, phase=self._beat and self._beat.phase
            )
            self._killed = True
            self.killed_in_drain |= self.standing.state is State.DRAINING
            child.send(signal.SIGKILL)

    def _hear(self) -> None:
        beat = heartbeat.read(self._beat_path)
        if beat is not None and beat.generation == self.standing.starts:
            self._beat = beat

    def _reason_to_kill(self, now: float) -> str | None:
        if self.standing.state is State.DRAINING and now - self.standing.since > self._pace.drain + self._pace.margin:
            return "did not drain in time"
        deadline = self._beat.deadline if self._beat else self._started + self._pace.first_beat
        return "no progress" if now > deadline else None

    def _bury(self, code: int, now: float) -> None:
        self._hear()
        done = self._beat.done if self._beat else 0
        self._child = None
        self._done_before += done
        self._move(Exited(code, done, random.SystemRandom().random()), now)
        self._tell_of_the_end(code, now)
        guarded(self._hooks.on_exit, self.name, self._beat)
        self._beat = None
        self._beat_path.unlink(missing_ok=True)

    def _tell_of_the_end(self, code: int, now: float) -> None:
        meaning = signal.Signals(-code).name if code < 0 else MEANING.get(code, "crash")
        retry = self.standing.due and round(max(0.0, self.standing.due - now), 1)
        say = log.info if code == 0 else log.error
        say(
            "worker ended",
            slot=self.name,
            code=code,
            meaning="no progress" if self._killed else meaning,
            up=round(now - self._started, 1),
            next=str(self.standing.state),
            retry_in=retry,
        )

    def _move(self, event: Event, now: float) -> None:
        self.standing = next_state(self.standing, event, now, self._pace)
