"""Taking something back: a job whose results must go and not come again, and everything of one user."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.delivery.outbox import Outbox
from workers.safety.audit import Chain
from workers.safety.registry import Copy, Entry, Registry, hashes_of

NEAR = 8


class Objects(Protocol):
    def clear(self, job_type: str, user_id: str, job_id: str) -> None: ...


class Results(Protocol):
    """What the queues remember of jobs."""

    def forget(self, job_id: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job's objects lie."""

    job_type: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Takedown:
    """What is to go: a job's outputs and those that look like them. `place` None: nobody knows where they lie. `plain`
    outputs have no perceptual hash: only their exact files are known again."""

    job: str
    place: Place | None
    entries: tuple[Entry, ...]
    copies: tuple[Copy, ...]

    @property
    def plain(self) -> int:
        return sum(not any(entry.prints) for entry in self.entries)


def find(registry: Registry, job: str, place: Place | None, most: int = NEAR) -> Takedown:
    """`most` is how many bits of 64 may differ in a copy. The registry's own place goes before the one given."""
    entries = registry.of_job(job)
    prints = [seen for entry in entries for seen in entry.prints]
    copies = [copy for copy in registry.near(prints, most) if copy.job != job]
    owned = next((Place(entry.type, entry.owner) for entry in entries if entry.owner), place)
    return Takedown(job, owned, tuple(entries), tuple(copies))


def take_down(
    found: Takedown,
    *,
    registry: Registry,
    audit: Chain,
    objects: Objects,
    outbox: Outbox,
    results: Sequence[Results],
    with_copies: bool = False,
) -> list[str]:
    """Write it down, block, then delete; whatever fails, the same again does the rest. Returns the jobs whose objects
    are gone: the job's own, and with `with_copies` those that look like it."""
    alike = {copy.job: registry.of_job(copy.job) for copy in found.copies}
    hashes = sorted({*hashes_of(found.entries), *(each for entries in alike.values() for each in hashes_of(entries))})
    copies = sorted(alike)
    line = audit.write("takedown", job=found.job, blocked=hashes, copies=copies, deleted_copies=with_copies)
    registry.block(found.job, hashes, line["at"])
    places = {found.job: found.place}
    if with_copies:
        places |= {job: _place(entries) for job, entries in alike.items()}
    gone = []
    for job, place in places.items():
        outbox.remove(job)
        for queue in results:
            queue.forget(job)
        if place is not None:
            objects.clear(place.job_type, place.user_id, job)
            gone.append(job)
    return gone


def _place(entries: Iterable[Entry]) -> Place | None:
    return next((Place(entry.type, entry.owner) for entry in entries if entry.owner), None)


def forget_files(user_id: str, outbox: Outbox, characters: Path, *, dry: bool = False) -> int:
    """What of the user lies on the volume: finished files that wait, remembered characters. Returns how many."""
    waiting = [job for job in outbox.jobs() if (sealed := outbox.find(job)) and sealed.user_id == user_id]
    remembered = list((characters / user_id).glob("*"))
    if not dry:
        for job in waiting:
            outbox.remove(job)
        shutil.rmtree(characters / user_id, ignore_errors=True)
    return len(waiting) + len(remembered)


def forget_pseudonym(user_id: str, registry: Registry, audit: Chain) -> int:
    """Nothing leads from hashes to the user any more, but for who has the key and the id. Returns how many outputs."""
    pseudonym = audit.mac(user_id)
    audit.write("forgotten", user=pseudonym, at_epoch=int(time.time()))
    return registry.forget(pseudonym)
