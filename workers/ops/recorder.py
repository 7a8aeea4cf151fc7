"""Writes down what happens: takes the workers' entries away each second, closes a row each minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers import estimates, records
from workers.claim import Sight
from workers.logs import describe, log
from workers.ops.board import Board
from workers.ops.card import Card, CardNow
from workers.ops.feed import Feed
from workers.ops.history import MINUTE, Archive, Ring
from workers.ops.status import job, live, standing, summary
from workers.ops.terms import Terms
from workers.supervision.ledger import FOLDER, Entry, take

UNSEEN = 60.0
"""Seconds without a look at a queue by its worker, after which the supervisor looks itself."""

Look = Callable[[str], Sight]


@dataclass(frozen=True, slots=True)
class Books:
    """All that is kept, and who is told of it."""

    terms: Terms
    board: Board
    archive: Archive
    ring: Ring
    feed: Feed


class Recorder:
    """One thread. `look` asks a queue of one kind, and may raise; it is not called while a worker does."""

    def __init__(self, books: Books, run_dir: Path, *, look: Look, card: Card | None = None) -> None:
        self._books, self._look, self._card = books, look, card or Card()
        self._ended, self._estimates = run_dir / FOLDER, run_dir / estimates.FILE
        self._minute, self._began = self._now_minute(), time.monotonic()
        self._jobs: dict[str, list[float]] = {}
        self._failed = 0.0
        self._before = self._totals()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ops-recorder", daemon=True)
        self.card: CardNow | None = None

    def start(self) -> None:
        self._learn()
        self._thread.start()

    def stop(self) -> None:
        """The last entries are written down before this returns."""
        self._done.set()
        self._thread.join(5.0)

    def tick(self) -> None:
        """What is done each second."""
        entries = list(take(self._ended))
        for entry in entries:
            self._books.archive.add(entry)
            self._count(entry)
            self._books.feed.publish("job", job(entry))
        if entries:
            self._learn()
            self._books.feed.publish("types", standing(self._books.terms, self._books.archive))
        self.card = self._card.read()
        if (minute := self._now_minute()) != self._minute:
            self._close_minute(minute)
        if self._books.feed.heard:
            self._books.feed.publish("live", live(self._books.board, self.card))

    def _run(self) -> None:
        failing = False
        while not self._done.wait(1.0):
            failing = not self._attempt(self.tick, failing)
        self._attempt(self._close, failing)

    def _attempt(self, step: Callable[[], None], failing: bool) -> bool:
        """A disk that is full costs history, nothing else; it is said once until it goes well again."""
        try:
            step()
        except Exception as error:
            if not failing:
                log.warning("history not kept", **describe(error))
            return False
        return True

    def _close(self) -> None:
        for entry in take(self._ended):
            self._books.archive.add(entry)
        self._books.archive.save()

    def _close_minute(self, minute: int) -> None:
        row, self._minute, self._jobs, self._failed = self._row(), minute, {}, 0.0
        self._glance()
        books = self._books
        books.feed.publish("minute", {"row": row, **summary(books.terms, books.archive, books.ring)})
        books.ring.write(row)
        books.archive.save()

    def _row(self) -> Mapping[str, Any]:
        """The minute that ends now: states as they are, counts and seconds since the last row."""
        board, before = self._books.board, self._before
        self._before = now = self._totals()
        began, self._began = self._began, time.monotonic()
        return {
            "t": self._minute * MINUTE,
            "until": round(time.time(), 3),
            "seconds": round(self._began - began, 1),
            "queues": {queue.kind: [queue.waiting, queue.oldest] for queue in board.queues()},
            "busy": {kind: round(busy - before[kind][0], 2) for kind, (busy, _) in now.items()},
            "idle": board.idle_share(MINUTE),
            "commands": round(sum(commands - before[kind][1] for kind, (_, commands) in now.items())),
            "failed": round(self._failed, 2),
            "ready": sum(worker.ready for worker in board.workers()),
            "jobs": {name: [round(value, 2) for value in counts] for name, counts in self._jobs.items()},
        }

    def _count(self, entry: Entry) -> None:
        """Per type: completed, failed, and of the completed ones the seconds of work, of waiting, on the card; and all
        seconds on the card of the others."""
        done = entry.status == "completed"
        self._failed += entry.on_card * (not done)
        counts = (float(done), float(not done), entry.work * done, entry.wait * done, entry.on_card * done)
        self._jobs[entry.type] = [a + b for a, b in zip(self._jobs.get(entry.type, [0.0] * 5), counts, strict=True)]

    def _glance(self) -> None:
        """Look at queues that no worker looked at for long: that is when they fill."""
        for queue in self._books.board.queues():
            if queue.age is None or queue.age > UNSEEN:
                try:
                    self._books.board.sighted(queue.kind, self._look(queue.kind))
                except Exception as error:
                    log.debug("queue not seen", kind=queue.kind, **describe(error))

    def _learn(self) -> None:
        records.write(self._estimates, estimates.learn(self._books.archive.entries()))

    def _totals(self) -> dict[str, tuple[float, float]]:
        return {kind: (sums.busy.total, sums.commands.total) for kind, sums in self._books.board.sums.items()}

    def _now_minute(self) -> int:
        return int(time.time()) // MINUTE
