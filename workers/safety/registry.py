"""Hashes of everything that was made, and of what must not come back: an index of the audit, which stays the truth.

One SQLite file beside the audit, shared by the workers of a volume. Where it is missing it is built again from the
audit; only the owners of files, which the audit does not know, are lost by that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.safety.copies import BlockList, distance

FILE = "registry.sqlite"
PATIENCE = 30.0
COLUMNS = ("job", "position", "sha256", "user", "type", "at", "owner")
SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    job TEXT, position INTEGER, sha256 TEXT, user TEXT, owner TEXT, type TEXT, at REAL, PRIMARY KEY (job, position));
CREATE INDEX IF NOT EXISTS by_hash ON files (sha256);
CREATE TABLE IF NOT EXISTS prints (
    job TEXT, position INTEGER, frame INTEGER, print TEXT, PRIMARY KEY (job, position, frame));
CREATE TABLE IF NOT EXISTS blocked (hash TEXT PRIMARY KEY, job TEXT, at REAL);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One output. `user` is the audit's pseudonym; `owner` the user's id, None once it was forgotten. `prints` are of
    the frames that were looked at."""

    job: str
    position: int
    sha256: str
    user: str
    type: str
    at: float
    owner: str | None = None
    prints: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """An output that looks like another: `distance` in bits of the nearest frames."""

    job: str
    position: int
    distance: int


class Registry:
    """Every method raises `sqlite3.Error` where the file cannot be used. Any thread may call."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._known: tuple[tuple[int, int], BlockList] | None = None

    @property
    def exists(self) -> bool:
        return self.path.is_file()

    def add(self, entries: Iterable[Entry]) -> None:
        """A job that is made again takes the place of its earlier outputs."""
        with self._open() as file:
            for e in entries:
                facts = (e.job, e.position, e.sha256, e.user, e.owner, e.type, e.at)
                file.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", facts)
                file.execute("DELETE FROM prints WHERE job = ? AND position = ?", (e.job, e.position))
                rows = [(e.job, e.position, i, seen) for i, seen in enumerate(e.prints) if seen is not None]
                file.executemany("INSERT INTO prints VALUES (?, ?, ?, ?)", rows)

    def find(self, sha256: str) -> Entry | None:
        """The output with exactly these bytes."""
        return next(iter(self._entries("sha256 = ?", sha256)), None)

    def jobs(self) -> list[str]:
        """Every job with an output."""
        with self._open() as file:
            return [job for (job,) in file.execute("SELECT DISTINCT job FROM files")]

    def of_job(self, job: str) -> list[Entry]:
        return self._entries("job = ?", job)

    def of_user(self, user: str) -> list[Entry]:
        return self._entries("user = ?", user)

    def near(self, prints: Iterable[str | None], most: int) -> list[Copy]:
        """Outputs with a frame that differs from one of these by at most so many bits, the nearest first."""
        wanted = [seen for seen in prints if seen is not None]
        found: dict[tuple[str, int], int] = {}
        with self._open() as file:
            for job, position, seen in file.execute("SELECT job, position, print FROM prints"):
                apart = min((distance(seen, other) for other in wanted), default=most + 1)
                if apart <= most:
                    found[job, position] = min(apart, found.get((job, position), apart))
        return sorted((Copy(*place, apart) for place, apart in found.items()), key=lambda copy: copy.distance)

    def block(self, job: str, hashes: Iterable[str], at: float) -> None:
        """These files and perceptual hashes must not come back."""
        with self._open() as file:
            rows = [(each, job, at) for each in hashes]
            file.executemany("INSERT OR IGNORE INTO blocked VALUES (?, ?, ?)", rows)

    def block_list(self) -> BlockList:
        """As it is now, whoever changed it."""
        with self._open() as file:
            (state,) = file.execute("SELECT count(*), coalesce(max(rowid), 0) FROM blocked")
            if self._known is None or self._known[0] != state:
                rows = list(file.execute("SELECT hash, job FROM blocked"))
                files = {each: job for each, job in rows if len(each) == 64}
                prints = tuple((int(each, 16), job) for each, job in rows if len(each) == 16)
                self._known = state, BlockList(files, prints)
        return self._known[1]

    def forget(self, user: str) -> int:
        """Whose these files are; the hashes stay. Returns how many."""
        with self._open() as file:
            return file.execute("UPDATE files SET owner = NULL, user = '' WHERE user = ?", (user,)).rowcount

    def _entries(self, where: str, value: str) -> list[Entry]:
        with self._open() as file:
            chosen = f"SELECT {', '.join(COLUMNS)} FROM files WHERE {where} ORDER BY job, position"  # noqa: S608 - ours
            rows = list(file.execute(chosen, (value,)))
            return [Entry(**dict(zip(COLUMNS, row, strict=True)), prints=_prints(file, *row[:2])) for row in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction on a connection of its own: no thread waits for another, no lock outlives a call."""
        with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as file, file:
            file.executescript(SCHEMA)
            yield file


def _prints(file: sqlite3.Connection, job: str, position: int) -> tuple[str, ...]:
    chosen = "SELECT print FROM prints WHERE job = ? AND position = ? ORDER BY frame"
    return tuple(seen for (seen,) in file.execute(chosen, (job, position)))


def hashes_of(entries: Sequence[Entry]) -> list[str]:
    """All by which these outputs are known again."""
    return [each for entry in entries for each in (entry.sha256, *entry.prints) if each is not None]
