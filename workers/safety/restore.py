"""The registry again, from the audit's lines."""

from __future__ import annotations

from collections.abc import Iterable

from workers.safety.audit import Record
from workers.safety.registry import Entry, Registry


def restore(registry: Registry, lines: Iterable[Record]) -> None:
    """Raises `sqlite3.Error`, and `KeyError` or `TypeError` for lines that nobody of ours wrote."""
    registry.add(())
    for line in lines:
        if line["event"] == "made":
            registry.add(_entries(line))
        elif line["event"] == "takedown":
            registry.block(line["job"], line["blocked"], line["at"])
        elif line["event"] == "forgotten":
            registry.forget(line["user"])


def _entries(line: Record) -> list[Entry]:
    return [
        Entry(
            job=line["job"],
            position=output["index"],
            sha256=output["sha256"],
            user=line["user"],
            type=line["type"],
            at=line["at"],
            prints=tuple(output["prints"]),
        )
        for output in line["outputs"]
    ]
