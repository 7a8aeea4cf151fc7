"""The deployment's tables, in SQLite."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
SCHEMA = Path(__file__).with_name("schema.sql")
JSON_COLUMNS = frozenset({"metadata"})


class Database:
    """One connection for all threads. Names of tables and columns come from the caller, which must know them.

    With `linking` a job cannot be completed before its image or video is linked to it. An abort by that trigger,
    and whatever else the tables refuse, raises `sqlite3.IntegrityError`.
    """

    def __init__(self, *, linking: bool) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript(SCHEMA.read_text(encoding="utf-8"))
        if not linking:
            self._connection.executescript("DROP TRIGGER image_link; DROP TRIGGER video_link")
        self.columns = {table: self._columns_of(table) for table in self._tables()}

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self._run(["INSERT INTO", table, f"({names}) VALUES ({marks})"], _written(row))

    def select(
        self,
        table: str,
        where: Mapping[str, Any] | None = None,
        *,
        filters: Sequence[tuple[str, Any]] = (),
        tail: str = "",
    ) -> list[Row]:
        """Rows with these values (None is NULL), and passing these conditions; `tail` orders and limits."""
        condition, values = _condition(where, filters)
        return [_read(row) for row in self._run(["SELECT * FROM", table, condition, tail], values)]

    def update(
        self,
        table: str,
        where: Mapping[str, Any] | None,
        values: Mapping[str, Any],
        *,
        filters: Sequence[tuple[str, Any]] = (),
    ) -> int:
        """The number of rows changed."""
        condition, arguments = _condition(where, filters)
        assignments = ", ".join(f"{name} = ?" for name in values)
        cursor = self._run(["UPDATE", table, "SET", assignments, condition], [*_written(values), *arguments])
        return cursor.rowcount

    def delete(self, table: str, where: Mapping[str, Any] | None = None) -> None:
        condition, values = _condition(where, ())
        self._run(["DELETE FROM", table, condition], values)

    def clear(self) -> None:
        for table in self.columns:
            self.delete(table)

    def close(self) -> None:
        self._connection.close()

    def _run(self, words: Sequence[str], values: Sequence[Any]) -> sqlite3.Cursor:
        with self._lock:
            return self._connection.execute(" ".join(words), values)

    def _tables(self) -> list[str]:
        return [row["name"] for row in self._run(["SELECT name FROM sqlite_master WHERE type = 'table'"], [])]

    def _columns_of(self, table: str) -> frozenset[str]:
        return frozenset(row["name"] for row in self._run([f"PRAGMA table_info({table})"], []))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _condition(where: Mapping[str, Any] | None, filters: Sequence[tuple[str, Any]]) -> tuple[str, list[Any]]:
    """A WHERE clause and its values. A filter is a condition with one mark, or with none and the value None."""
    terms = [(f"{name} IS ?", value) for name, value in (where or {}).items()] + list(filters)
    clause = " AND ".join(term for term, _ in terms)
    return (f"WHERE {clause}" if clause else ""), [value for term, value in terms if "?" in term]


def _written(row: Mapping[str, Any]) -> list[Any]:
    return [json.dumps(value) if name in JSON_COLUMNS else value for name, value in row.items()]


def _read(row: sqlite3.Row) -> Row:
    return {name: json.loads(row[name]) if name in JSON_COLUMNS else row[name] for name in row.keys()}  # noqa: SIM118
