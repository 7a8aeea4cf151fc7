"""The next job for this worker: tokens, polling, and patience with a queue that does not answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from workers import crash
from workers.claim import Claim, ClaimReply
from workers.errors import ClaimLost, Unreachable
from workers.logs import log
from workers.stop import Stop

BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
SLICE = 15.0
SHORTEST = 0.01

Pace = Callable[[ClaimReply, float], float]
"""How long to wait before an empty queue is asked again, from every answer and the time at which it was asked for."""


class Claims(Protocol):
    def claim(self, token: str) -> ClaimReply: ...


class Claimer:
    """Asks one queue for jobs. `poll` is the pause after an empty answer, `lease` the life of a claim, in seconds;
    `pace` may choose another pause."""

    def __init__(self, queue: Claims, stop: Stop, *, poll: float, lease: float, pace: Pace | None = None) -> None:
        self._queue, self._stop, self._lease = queue, stop, lease
        self._pace: Pace = pace or (lambda reply, asked: poll)
        self._paused = False
        self.waiting: int | None = None
        self._token: tuple[str, float] | None = None
        self._failures = 0

    def next(self, look_alive: Callable[[], None]) -> Claim | None:
        """One question; None after a wait if there is nothing.

        A repeated token finds the claim whose reply was lost; one as old as half a lease is not repeated.
        """
        token, made = self._token or (secrets.token_hex(16), time.monotonic())
        self._token = None
        asked = time.monotonic()
        try:
            crash.point("before-claim")
            reply = self._queue.claim(token)
        except ClaimLost:
            return None
        except Unreachable as error:
            if time.monotonic() - made < self._lease / 2:
                self._token = (token, made)
            self.back_off(str(error), look_alive, wish=error.retry_after, denied=error.denied)
            return None
        self._failures, self.waiting = 0, reply.waiting
        self._tell(reply)
        pause = self._pace(reply, asked)
        if reply.claim is None:
            until_expiry = pause if reply.next_expiry is None else max(SHORTEST, reply.next_expiry)
            self._stop.sleep(min(pause, until_expiry))
            return None
        crash.point("claim-unheard")
        return replace(reply.claim, asked=asked)

    def _tell(self, reply: ClaimReply) -> None:
        """What this answer says that the logs of all workers together should hold."""
        for job_id in reply.withdrawn:
            log.info("cancelled", job=job_id, phase="waiting")
        if reply.paused != self._paused:
            self._paused = reply.paused
            log.info("queue paused" if reply.paused else "queue resumed", waiting=reply.waiting)

    def back_off(
        self, reason: str, look_alive: Callable[[], None], *, wish: float | None = None, denied: bool = False
    ) -> None:
        """Wait longer each time, or as long as was wished: an error is never read as an empty queue."""
        pause = max(BACK_OFF[min(self._failures, len(BACK_OFF) - 1)], wish or 0.0)
        self._failures += 1
        log.error("cannot claim", reason=reason, wait=pause, failures=self._failures, denied=denied or None)
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0 and not self._stop.requested:
            look_alive()
            self._stop.sleep(min(left, SLICE))
