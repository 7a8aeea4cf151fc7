"""Keeps one worker alive per slot until asked to stop. One thread owns everything."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

from workers.logs import log
from workers.stop import Stop
from workers.supervision import heartbeat
from workers.supervision.keeper import Hooks, Keeper, guarded
from workers.supervision.process import Slot
from workers.supervision.slot import Pace, State

ALL_DRAINED = 0
NOTHING_CAN_START = 1
HAD_TO_KILL = 72


def supervise(
    slots: Sequence[Slot],
    *,
    only: str | None = None,
    hooks: Hooks | None = None,
    pace: Pace | None = None,
    run_dir: Path | None = None,
) -> int:
    """Run until every slot has stopped; returns the process's exit code.

    Main thread only, and the last thing a process does: it takes the signals and leaves them ignored.
    """
    stop = Stop(parent=heartbeat.supervisor()).install(wake_on=[signal.SIGCHLD])
    chosen = [slot for slot in slots if only in (None, slot.name)]
    code = Supervisor(chosen, stop, hooks or Hooks(), pace or Pace(), run_dir or heartbeat.run_dir()).run()
    stop.ignore()
    return code


class Supervisor:
    """All slots together: what they share is the signals, the status line and the end."""

    def __init__(self, slots: Sequence[Slot], stop: Stop, hooks: Hooks, pace: Pace, run_dir: Path) -> None:
        self._keepers = [Keeper(slot, hooks, pace, run_dir) for slot in slots]
        self._stop, self._hooks, self._pace = stop, hooks, pace
        self._heard = 0
        self._status_due = time.monotonic() + pace.status

    def run(self) -> int:
        while (code := self._outcome()) is None:
            self._hear()
            for keeper in self._keepers:
                keeper.tick(time.monotonic())
            guarded(self._hooks.show, [keeper.view(time.monotonic()) for keeper in self._keepers])
            self._report()
            self._stop.sleep(self._pace.tick, beyond=self._heard)
        log.info("supervisor ended", code=code)
        return code

    def _outcome(self) -> int | None:
        """The exit code once there is nothing left to do."""
        if all(keeper.standing.state is State.STOPPED for keeper in self._keepers):
            return HAD_TO_KILL if any(keeper.killed_in_drain for keeper in self._keepers) else ALL_DRAINED
        if all(keeper.standing.misconfigured and keeper.idle for keeper in self._keepers):
            return NOTHING_CAN_START
        return None

    def _hear(self) -> None:
        """Pass requests to stop on to all groups at once; from the second on again and again, since signals merge."""
        if self._stop.requests == self._heard and not self._stop.now:
            return
        if not self._heard:
            log.info("draining", seconds=self._pace.drain, hint="a second signal hands back every job now")
        self._heard = self._stop.requests
        for keeper in self._keepers:
            keeper.stop(time.monotonic())

    def _report(self) -> None:
        now = time.monotonic()
        if now >= self._status_due:
            self._status_due = now + self._pace.status
            slots = {keeper.name: keeper.status(now) for keeper in self._keepers}
            log.info("status", **slots, queues=guarded(self._hooks.depths))
