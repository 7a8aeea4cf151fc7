"""Announcements of new jobs, so that an idle worker need not keep asking for them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import httpx

from workers.claim import ClaimReply
from workers.errors import Unreachable
from workers.logs import describe, log
from workers.queue.budget import Budget
from workers.trust import trusted

SLOW = 60.0
DOUBT = 3600.0
LATE = 5.0
QUIET = 300.0
BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
EVENTS = "text/event-stream"


class Trust:
    """How long to wait before an empty queue is asked again, all times in seconds.

    `SLOW` only while announcements are heard and have proved true: one job was announced, and none came unannounced
    within the last hour. Otherwise `poll`. Safe for two threads: one that listens, one that claims.
    """

    def __init__(self, poll: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._poll, self._clock = poll, clock
        self._listening_since: float | None = None
        self._heard = self._doubted_until = float("-inf")
        self._proved = False
        self._empty_since: float | None = None
        self._unannounced: tuple[float, float] | None = None

    @property
    def listening(self) -> bool:
        return self._listening_since is not None

    def listen(self) -> None:
        """From now on every new job should be announced."""
        self._listening_since = self._clock()

    def deaf(self) -> None:
        self._listening_since = None

    def hear(self) -> None:
        self._heard = self._clock()

    def pause_after(self, reply: ClaimReply, asked: float) -> float:
        """Call it with every answer, and with the time at which it was asked for."""
        self._judge_late_news()
        if reply.claim is None:
            self._empty_since = None if reply.waiting else asked
        elif self._empty_since is not None:
            self._expect_news(reply, asked, since=self._empty_since)
            self._empty_since = None
        return SLOW if self._relies_on_news and (reply.paused or not reply.waiting) else self._poll

    @property
    def _relies_on_news(self) -> bool:
        heard_well = self.listening and self._unannounced is None
        return heard_well and self._proved and self._clock() >= self._doubted_until

    def _expect_news(self, reply: ClaimReply, asked: float, *, since: float) -> None:
        """A new job that came after the queue was seen empty, while we listened, was announced in between."""
        claim, listening = reply.claim, self._listening_since
        is_new = claim is not None and claim.attempt == 1 and not claim.crashes and claim.result is None
        if is_new and listening is not None and listening < since:
            self._unannounced = (since, asked)
            self._judge_late_news()

    def _judge_late_news(self) -> None:
        """Producers push first and announce then: a claim in between comes before its news."""
        if self._unannounced is None:
            return
        since, asked = self._unannounced
        if self._heard >= since:
            self._proved, self._unannounced = True, None
        elif self._clock() - asked > LATE:
            self._doubted_until, self._unannounced = self._clock() + DOUBT, None
            log.info("job came unannounced", polling=self._poll, minutes=round(DOUBT / 60))


class WakeUps:
    """Listens to `wake:{queue}` in a thread of its own, and calls `on_wake` for every announcement.

    It may fail in any way: the worker then polls as it does without. `pause_after` says how often.
    """

    def __init__(
        self,
        queue: str,
        url: str,
        token: str,
        *,
        poll: float,
        on_wake: Callable[[], None],
        budget: Budget | None = None,
    ) -> None:
        self._address, self._token = f"{url}/subscribe/wake:{queue}", token
        self._on_wake = on_wake
        self._budget = budget or Budget()
        self._trust = Trust(poll)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wake", daemon=True)
        self._stream: socket.socket | None = None
        self._failures = 0
        self.pause_after = self._trust.pause_after

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._closed.set()
        if self._stream is not None:
            with suppress(OSError):
                self._stream.shutdown(socket.SHUT_RDWR)  # to close it would not end a read that waits

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def listening(self) -> bool:
        return self._trust.listening

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._closed.wait(self._listen())
        except Unreachable as error:
            log.info("wake-ups are off", reason=str(error))
        except Exception as error:
            log.error("wake-ups ended", **describe(error))

    def _listen(self) -> float:
        """One stream, to its end; returns how long to wait before the next. Raises `Unreachable` if there are none."""
        self._budget.spend()
        headers = {"Authorization": f"Bearer {self._token}", "Accept": EVENTS}
        limits = httpx.Timeout(10.0, read=QUIET)
        try:
            with httpx.stream("POST", self._address, headers=headers, timeout=limits, verify=trusted()) as response:
                self._require_events(response)
                self._stream = response.extensions["network_stream"].get_extra_info("socket")
                for line in response.iter_lines():
                    self._hear(line)
        except httpx.ReadTimeout:
            return 0.0  # nothing was said for long, or the connection is dead: only a new one can tell
        except httpx.HTTPError as error:
            log.debug("wake-ups interrupted", reason=type(error).__name__)
        finally:
            self._trust.deaf()
        self._failures += 1
        return BACK_OFF[min(self._failures, len(BACK_OFF)) - 1]

    def _require_events(self, response: httpx.Response) -> None:
        if response.status_code == 429 or response.status_code >= 500:
            response.raise_for_status()
        if response.status_code != 200 or EVENTS not in response.headers.get("Content-Type", ""):
            raise Unreachable(f"the queue offers no subscriptions (HTTP {response.status_code})")

    def _hear(self, line: str) -> None:
        """`data: subscribe,CHANNEL,1` once, when news may have been missed, then `data: message,CHANNEL,TEXT`."""
        event = line.removeprefix("data: ").partition(",")[0]
        if event == "subscribe":
            self._failures = 0
            self._trust.listen()
        elif event == "message":
            self._trust.hear()
        else:
            return
        self._on_wake()
