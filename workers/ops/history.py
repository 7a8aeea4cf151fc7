"""What was: a row a minute for a week in a file of fixed size, and the last jobs."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workers import records
from workers.supervision.ledger import Entry, from_record

MINUTE = 60
WEEK = 7 * 24 * 60
ROW = 1024
JOBS = 500
LEFT_BEHIND = 8 * 86_400
Row = Mapping[str, Any]


class Ring:
    """Rows by the minute they describe; each is written over after `rows` minutes. Sparse, at most `rows` KiB.

    A row is JSON with the epoch of its minute in `t`; whatever is not such a row counts as none.
    """

    def __init__(self, path: Path, rows: int = WEEK) -> None:
        self._rows = rows
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def write(self, row: Row) -> None:
        """Raises `OSError`. Of a row that is too long the types of jobs are left out, the rarest first."""
        text = _fitted(row)
        os.pwrite(self._file, text.ljust(ROW).encode(), self._place(int(row["t"])))

    def read(self, since: float, until: float | None = None) -> list[Row]:
        """The rows from then on, in order of time."""
        last = int(until if until is not None else time.time()) // MINUTE
        first = max(last - self._rows + 1, int(since) // MINUTE)
        found = (self._at(minute * MINUTE) for minute in range(first, last + 1))
        return [row for row in found if row is not None]

    def close(self) -> None:
        os.close(self._file)

    def _at(self, second: int) -> Row | None:
        with suppress(OSError, ValueError):
            row = json.loads(os.pread(self._file, ROW, self._place(second)))
            if isinstance(row, dict) and row.get("t") == second:
                return row
        return None

    def _place(self, second: int) -> int:
        return second // MINUTE % self._rows * ROW


class Archive:
    """The last jobs, the newest last, kept in a file over restarts."""

    def __init__(self, path: Path, most: int = JOBS) -> None:
        self._path = path
        self._entries: deque[Entry] = deque(_load(path), maxlen=most)
        self._saved = True

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._saved = False

    def entries(self) -> list[Entry]:
        return list(self._entries)

    def find(self, job_id: str) -> Entry | None:
        """The job's last end."""
        return next((entry for entry in reversed(self.entries()) if entry.job == job_id), None)

    def save(self) -> None:
        """Raises `OSError`."""
        if not self._saved:
            records.write(self._path, [asdict(entry) for entry in self.entries()])
            self._saved = True


def bucketed(rows: Sequence[Row], seconds: int, merge: Callable[[Sequence[Row]], Row]) -> list[Row]:
    """Rows of so many seconds each, merged from those of a minute."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(int(row["t"]) // seconds * seconds, []).append(row)
    return [{**merge(group), "t": start} for start, group in sorted(groups.items())]


def sweep(folder: Path, keep: Iterable[Path], clock: Callable[[], float] = time.time) -> None:
    """Remove what machines that are gone for good left in a folder they shared with us."""
    kept = set(keep)
    with suppress(OSError):
        for path in folder.iterdir():
            if path not in kept and path.is_file() and clock() - path.stat().st_mtime > LEFT_BEHIND:
                path.unlink(missing_ok=True)


def _load(path: Path) -> list[Entry]:
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return [from_record(record) for record in json.loads(path.read_text())]
    return []


def _fitted(row: Row) -> str:
    types = dict(row.get("jobs", {}))
    while len(text := json.dumps({**row, "jobs": types}, separators=(",", ":"))) > ROW and types:
        types.pop(min(types, key=lambda name: sum(types[name][:2])))
    return text[:ROW]
