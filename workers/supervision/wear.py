"""When a worker should make room for a fresh process: many jobs, much memory, or memory of the card that stays lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workers.logs import log

GIB = 2**30
MAX_CARD_GROWTH = GIB
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Finished jobs, and bytes of memory in the host; 0 is no ceiling."""

    jobs: int = 0
    memory: int = 0


def memory() -> int:
    """Bytes of this process that no file backs. Mapped weights are resident too, but the kernel can drop those."""
    _, resident, shared, *_ = map(int, _STATM.read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


class Wear:
    """What a process has used up since its weights were loaded. `card` gives the bytes it holds of the card."""

    def __init__(
        self,
        ceilings: Ceilings = Ceilings(),
        *,
        memory: Callable[[], int] = memory,
        card: Callable[[], int] = lambda: 0,
    ) -> None:
        self._ceilings, self._memory, self._card = ceilings, memory, card
        self._fresh_memory = self._fresh_card = 0

    def begin(self) -> None:
        """The process is as fresh as it will be."""
        self._fresh_memory, self._fresh_card = self._memory(), self._card()

    def out(self, jobs: int) -> bool:
        """Whether to end after so many finished jobs. To be asked while nothing is generated."""
        reason = self._reason(jobs) if jobs else None
        if reason is not None:
            log.info("recycling", reason=reason)
        return reason is not None

    def _reason(self, jobs: int) -> str | None:
        """A ceiling below what a fresh process needs is none: it would be reached again at once, without end."""
        ceilings = self._ceilings
        if ceilings.jobs and jobs >= ceilings.jobs:
            return f"{jobs} jobs"
        if ceilings.memory > self._fresh_memory and (held := self._memory()) > ceilings.memory:
            return f"{held / GIB:.1f} GiB of memory"
        if (grown := self._card() - self._fresh_card) > MAX_CARD_GROWTH:
            return f"{grown / GIB:.1f} GiB of the card lost"
        return None
