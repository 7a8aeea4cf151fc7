"""Signals and a dead parent become a flag that a loop can sleep on.

`time.sleep` and a blocking `flock` run to their end in spite of a handled signal, and `threading.Event.set` inside a
handler can deadlock. So the interpreter writes each signal to a pipe, and every wait of the main thread is a
`select` on it. Handlers only record; loops decide.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from types import FrameType
from typing import Self

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether this process should end: `requested` by the first signal, `now` by the second or a dead parent.

    `parent` is the pid of the supervisor, None for a process that runs alone. Flags may be read, and `request` and
    `wake` called, from any thread; `sleep` and `rest` belong to one thread, the one that took the signals.
    """

    def __init__(self, parent: int | None = None) -> None:
        self._parent = parent
        self._times: list[float] = []
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._restore = contextlib.ExitStack()
        self._restore.callback(os.close, self._read)
        self._restore.callback(os.close, self._write)

    def install(self, wake_on: Iterable[signal.Signals] = ()) -> Self:
        """Take SIGTERM and SIGINT; `wake_on` names signals that only end a sleep. Main thread only."""
        for number in (*STOPPING, *wake_on):
            self._restore.callback(signal.signal, number, signal.getsignal(number))
            signal.signal(number, self._record)
        old = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._restore.callback(signal.set_wakeup_fd, old)
        return self

    def close(self) -> None:
        """Give the signals back to their former handlers."""
        self._restore.close()

    def ignore(self) -> None:
        """Once the work is over: a signal during the interpreter's own shutdown would replace the exit code."""
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)

    @property
    def requests(self) -> int:
        """How often this process was asked to stop; a dead parent counts for two."""
        return len(self._asked())

    @property
    def requested(self) -> bool:
        return self.requests >= 1

    @property
    def now(self) -> bool:
        return self.requests >= 2

    @property
    def since(self) -> float | None:
        """When the first request came, on the monotonic clock."""
        asked = self._asked()
        return asked[0] if asked else None

    def request(self) -> None:
        """What a signal does, from within the program."""
        self._times.append(time.monotonic())
        self.wake()

    def wake(self) -> None:
        """End the present sleep, or the next one if nobody sleeps."""
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes just as well
            os.write(self._write, b"\0")

    def sleep(self, seconds: float, beyond: int = 0) -> bool:
        """Wait until out of time, woken, or asked to stop more often than `beyond`: 1 for one who drains already.

        True when asked.
        """
        self.rest(seconds, beyond)
        return self.requests > beyond

    def rest(self, seconds: float, beyond: int = 0) -> bool:
        """The same, but True when nothing ended it."""
        deadline = time.monotonic() + seconds
        while self.requests <= beyond and (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self._read], [], [], left)
            if ready and self._woken():
                return False
        return self.requests <= beyond

    def _woken(self) -> bool:
        return any(byte not in STOPPING for byte in os.read(self._read, 4096))

    def _asked(self) -> list[float]:
        if self._parent not in (None, os.getppid()) and len(self._times) < 2:
            self._times += [time.monotonic()] * 2
        return self._times

    def _record(self, number: int, frame: FrameType | None) -> None:
        if number in STOPPING:
            self._times.append(time.monotonic())
