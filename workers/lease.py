"""Every claim that this process holds, kept alive by one small thread, as long as its work makes progress."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from workers import crash
from workers.claim import Beat, BeatReply, Claim, Sight
from workers.errors import Cancelled, ClaimLost, Unreachable
from workers.logs import describe, log
from workers.watch import Watch

FRESH = 1.0
TICK = 1.0
SURE = 4.0
"""Beats that may stay away before a lease can have ended."""

THREAD_DIED = 72


class Beats(Protocol):
    """What is asked of the queue here. It has its own client, so that a hung claim cannot block a beat."""

    def beat(self, beats: Sequence[Beat]) -> BeatReply: ...


class Leases:
    """The claims in our hands. `hold` and `let_go` at both ends; `confirm` before every effect outside.

    A claim whose watch stopped moving is not renewed: a thread can beat for ever over a hung CUDA call.
    """

    def __init__(self, queue: Beats, *, interval: float) -> None:
        self._queue = queue
        self._interval = interval
        self._fresh = min(FRESH, interval)
        self._held: dict[str, tuple[str | None, Watch]] = {}
        self._beaten: dict[str, float] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.sight: Sight | None = None

    def hold(self, claim: Claim, job_id: str | None, watch: Watch) -> None:
        """Keep this claim alive from now on, or go on with another watch."""
        with self._lock:
            self._held[claim.token] = (job_id, watch)
            self._beaten.setdefault(claim.token, claim.asked)

    def let_go(self, token: str) -> None:
        """This claim has ended, one way or the other."""
        with self._lock:
            self._held.pop(token, None)
            self._beaten.pop(token, None)

    @property
    def tokens(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._held)

    def confirm(self, token: str, *, ask: bool = True) -> None:
        """The fence: raise `ClaimLost` unless the claim was ours at most a second ago, `Cancelled` if withdrawn.

        Raises `Unreachable` while nobody can say. Without `ask` our own clock decides: the lease cannot have ended
        yet, or `Unreachable`.
        """
        with self._lock:
            held, beaten = self._held.get(token), self._beaten.get(token, -math.inf)
        if held is None:
            raise ClaimLost
        age = time.monotonic() - beaten
        if ask and age > self._fresh:
            self._beat([token])
        elif not ask and age > SURE * self._interval:
            raise Unreachable("The lease may have ended.")
        self._raise_ending(token)

    def start(self, on_tick: Callable[[], None]) -> None:
        """Begin to beat; `on_tick` is called about once a second, for signs of life of other kinds."""
        self._thread = threading.Thread(target=self._run, args=(on_tick,), name="beat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop beating, after a last tick: the supervisor reads there how this process ended."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(TICK)

    def beat_all(self) -> None:
        """Renew every claim that makes progress. An unreachable queue is said once and tried again."""
        with self._lock:
            alive = [token for token, (_, watch) in self._held.items() if watch.alive]
        try:
            self._beat(alive)
        except Unreachable as error:
            log.warning("beat failed", reason=str(error), claims=len(alive))

    def _run(self, on_tick: Callable[[], None]) -> None:
        """The beating thread's whole life. Without it every claim is lost, so its death is the process's."""
        tick, due = min(TICK, self._interval / 2), time.monotonic()
        try:
            while not self._closed.wait(tick):
                on_tick()
                if time.monotonic() >= due:
                    due = time.monotonic() + self._interval
                    self.beat_all()
            on_tick()
        except BaseException as error:
            log.error("beat thread died", **describe(error))
            os._exit(THREAD_DIED)

    def _beat(self, tokens: Sequence[str]) -> None:
        with self._lock:
            held = {token: self._held[token] for token in tokens if token in self._held}
        if not held:
            return
        sent = time.monotonic()
        reply = self._queue.beat([Beat(token, job_id, _progress(watch)) for token, (job_id, watch) in held.items()])
        crash.point("beaten")
        if reply.waiting is not None:
            self.sight = Sight(reply.waiting, reply.oldest, sent)
        with self._lock:
            self._beaten |= dict.fromkeys(held.keys() & self._held.keys() - reply.lost - reply.cancelled, sent)
        for token in reply.lost:
            self._end(token, ClaimLost())
        for token in reply.cancelled:
            self._end(token, Cancelled())

    def _end(self, token: str, error: Exception) -> None:
        with self._lock:
            held = self._held.get(token)
        if held is not None:
            held[1].abort(error)

    def _raise_ending(self, token: str) -> None:
        with self._lock:
            held = self._held.get(token)
        if held is None:
            raise ClaimLost
        held[1].raise_if_aborted()


def _progress(watch: Watch) -> dict[str, Any]:
    percent = round(100 * watch.done / watch.total) if watch.total else 0
    said = {"phase": watch.current, "step": watch.done, "steps": watch.total, "percent": percent}
    left, share = watch.left, watch.share
    return said if left is None else said | {"left": round(left, 1), "overall": round(100 * share)}
