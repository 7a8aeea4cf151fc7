"""Whether the card has room for a worker: what held it before may take a while to let go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from workers.logs import log

PATIENCE = 15.0
"""Seconds after which a worker is started all the same: memory of somebody else's may never be free, and a worker that
finds too little makes do or says so itself."""


class Vacancy:
    """Asked with a slot's name before a worker is started. `needs` are slot -> bytes of its weights; `card` gives the
    card's free bytes and all it has, None where no card can be read. One that is too small is not waited for."""

    def __init__(
        self,
        needs: Mapping[str, int],
        card: Callable[[], tuple[int, int] | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._needs, self._card, self._clock = needs, card, clock
        self._since: dict[str, float] = {}

    def __call__(self, slot: str) -> bool:
        need = self._needs.get(slot, 0)
        free, total = self._card() or (need, need)
        if free >= need or need > total:
            self._since.pop(slot, None)
            return True
        if slot not in self._since:
            log.warning("waiting for the card", slot=slot, free=free, needed=need)
        if self._clock() - self._since.setdefault(slot, self._clock()) < PATIENCE:
            return False
        del self._since[slot]
        return True
