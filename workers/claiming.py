"""The next job for this worker: tokens, polling, and patience with a queue that does not answer."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from workers import crash
from workers.claim import Claim, ClaimReply, Sight
from workers.errors import ClaimLost, Unreachable
from workers.logs import log
from workers.stop import Stop

BOOT_PAUSES = (0.5, 1.0, 2.0, 5.0)
BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
SLICE = 15.0
SHORTEST = 0.01
PATIENCE = 1.0

Pace = Callable[[ClaimReply, float], float]
"""How long to wait before an empty queue is asked again, from every answer and the time at which it was asked for."""


class Checked(Protocol):
    def check(self) -> None: ...


def check(queue: Checked, stop: Stop) -> None:
    """Ask a queue at boot whether all is well. A lost request is asked again: a process that ends over it is started
    ever later. Raises `Unreachable` and `Misconfigured`."""
    for pause in (*BOOT_PAUSES, None):
        try:
            queue.check()
            return
        except Unreachable as error:
            if pause is None or error.denied or stop.requested:
                raise
            log.warning("queue check failed", reason=str(error), wait=pause)
            stop.sleep(pause)


class Claims(Protocol):
    """What is asked of the queue here. It has its own client: asking ahead happens beside the main thread."""

    def claim(self, token: str) -> ClaimReply: ...
    def release(self, token: str, *, counted: bool) -> bool: ...


class _Ahead(threading.Thread):
    """One question asked while the main thread works. `reply` is its answer once the thread has ended, if it came."""

    def __init__(self, queue: Claims) -> None:
        super().__init__(name="look-ahead", daemon=True)
        self._queue = queue
        self.token, self.asked = secrets.token_hex(16), time.monotonic()
        self.reply: ClaimReply | None = None

    def run(self) -> None:
        with suppress(Unreachable):
            reply = self._queue.claim(self.token)
            crash.point("ahead")
            self.reply = reply


def _nothing(_job_id: str) -> None: ...


class Claimer:
    """Asks one queue for jobs. `poll` is the pause after an empty answer, `lease` the life of a claim, in seconds;
    `pace` may choose another pause. `on_withdrawn` is told of jobs that were cancelled while they waited."""

    def __init__(self, queue: Claims, stop: Stop, *, poll: float, lease: float, pace: Pace | None = None) -> None:
        self._queue, self._stop, self._lease = queue, stop, lease
        self.on_withdrawn: Callable[[str], object] = _nothing
        self._pace: Pace = pace or (lambda reply, asked: poll)
        self.paused = False
        self.sight: Sight | None = None
        self._token: tuple[str, float] | None = None
        self._ahead: _Ahead | None = None
        self._failures = 0

    @property
    def tokens(self) -> tuple[str, ...]:
        """The claim that waits here until the present job is made. No beat keeps it alive."""
        ahead = self._ahead
        return (ahead.token,) if ahead else ()

    def look_ahead(self) -> None:
        """Ask for the next job already, if one waited when the last one came. Returns at once."""
        if self.sight and self.sight.waiting and self._ahead is None:
            self._ahead = _Ahead(self._queue)  # told to the supervisor before the claim can be there
            self._ahead.start()

    def give_back(self) -> None:
        """Release what was claimed ahead, if the queue answers soon; else its lease ends."""
        ahead = self._ahead
        if ahead is None:
            return
        ahead.join(PATIENCE)
        if ahead.is_alive():
            return
        self._ahead = None
        with suppress(Unreachable):
            if self._queue.release(ahead.token, counted=False):
                log.info("released", phase="ahead")

    def next(self, look_alive: Callable[[], None]) -> Claim | None:
        """One question, or what an earlier one brought; None after a wait if there is nothing."""
        answer = self._answered_ahead() or self._ask(look_alive)
        if answer is None:
            return None
        reply, asked = answer
        self._failures, self.sight = 0, Sight(reply.waiting, reply.oldest, asked)
        self._tell(reply)
        pause = self._pace(reply, asked)
        if reply.claim is None:
            until_expiry = pause if reply.next_expiry is None else max(SHORTEST, reply.next_expiry)
            self._rest(min(pause, until_expiry), look_alive)
            return None
        crash.point("claim-unheard")
        return replace(reply.claim, asked=asked)

    def _rest(self, seconds: float, look_alive: Callable[[], None], *, wakeful: bool = True) -> None:
        """Until then, or until asked to stop, or woken where that counts. A pause may be as long as a hung worker is
        given, so signs of life go on."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stop.requested:
            look_alive()
            if not self._stop.rest(min(left, SLICE)) and wakeful:
                return

    def _answered_ahead(self) -> tuple[ClaimReply, float] | None:
        """A claim that was made ahead. One that has waited for half its lease, or whose reply was lost, is asked for
        again under its token."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        ahead.join()
        if ahead.reply and ahead.reply.claim and time.monotonic() - ahead.asked < self._lease / 2:
            return ahead.reply, ahead.asked
        self._token = (ahead.token, time.monotonic())
        return None

    def _ask(self, look_alive: Callable[[], None]) -> tuple[ClaimReply, float] | None:
        """The queue's answer and when it was asked for; None after a wait if none came.

        A repeated token finds the claim whose reply was lost; one as old as half a lease is not repeated.
        """
        token, made = self._token or (secrets.token_hex(16), time.monotonic())
        self._token = None
        asked = time.monotonic()
        try:
            crash.point("before-claim")
            return self._queue.claim(token), asked
        except ClaimLost:
            return None
        except Unreachable as error:
            if time.monotonic() - made < self._lease / 2:
                self._token = (token, made)
            self.back_off(str(error), look_alive, wish=error.retry_after, denied=error.denied)
            return None

    def _tell(self, reply: ClaimReply) -> None:
        """What this answer says that the logs of all workers together should hold."""
        for job_id in reply.withdrawn:
            log.info("cancelled", job=job_id, phase="waiting")
            self.on_withdrawn(job_id)
        if reply.paused != self.paused:
            self.paused = reply.paused
            log.info("queue paused" if reply.paused else "queue resumed", waiting=reply.waiting)

    def back_off(
        self, reason: str, look_alive: Callable[[], None], *, wish: float | None = None, denied: bool = False
    ) -> None:
        """Wait longer each time, or as long as was wished: an error is never read as an empty queue."""
        pause = max(BACK_OFF[min(self._failures, len(BACK_OFF) - 1)], wish or 0.0)
        self._failures += 1
        log.error("cannot claim", reason=reason, wait=pause, failures=self._failures, denied=denied or None)
        self._rest(pause, look_alive, wakeful=False)
