"""Counts that go on where their source begins anew."""

from __future__ import annotations


class Odometer:
    """Adds up a rising reading over several lives of what is read: a process that died, a day that ended."""

    def __init__(self) -> None:
        self._life: object = None
        self._last = 0.0
        self.total = 0.0

    def read(self, life: object, reading: float) -> float:
        """The total after this reading. One that fell began at zero, as that of another life did."""
        same = life == self._life and reading >= self._last
        self.total += reading - self._last if same else reading
        self._life, self._last = life, reading
        return self.total
