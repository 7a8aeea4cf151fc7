"""How many commands were sent to redis, since every one is billed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from workers.errors import Unreachable

DAY = 86_400


class Budget:
    """The commands of one UTC day, as far as this process sent them; share one among all its clients.

    `limit` 0 means none. A used-up budget stops new claims only: what is claimed must still be beaten and acked.
    """

    def __init__(self, limit: int = 0, clock: Callable[[], float] = time.time) -> None:
        self.limit = limit
        self.total = 0
        self._clock = clock
        self._day = self._today()
        self._before = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Commands sent today."""
        with self._lock:
            self._turn()
            return self.total - self._before

    def spend(self, commands: int = 1) -> None:
        with self._lock:
            self._turn()
            self.total += commands

    def require_room(self) -> None:
        """Raises `Unreachable` until midnight UTC when the day's commands are used up."""
        if self.limit and self.used >= self.limit:
            rest = DAY - self._clock() % DAY
            raise Unreachable(f"The day's budget of {self.limit} queue commands is used up.", retry_after=rest)

    def _today(self) -> int:
        return int(self._clock() // DAY)

    def _turn(self) -> None:
        if self._today() != self._day:
            self._day, self._before = self._today(), self.total
