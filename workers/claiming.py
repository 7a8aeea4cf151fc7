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


class Claims(Protocol):
    def claim(self, token: str) -> ClaimReply: ...


class Claimer:
    """Asks one queue for jobs. `poll` is the pause after an empty answer, `lease` the life of a claim, in seconds."""

    def __init__(self, queue: Claims, stop: Stop, *, poll: float, lease: float) -> None:
        self._queue, self._stop = queue, stop
        self._poll, self._lease = poll, lease
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
        self._failures = 0
        if reply.claim is None:
            self._stop.sleep(min(self._poll, reply.next_expiry or self._poll))
            return None
        crash.point("claim-unheard")
        return replace(reply.claim, asked=asked)

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
