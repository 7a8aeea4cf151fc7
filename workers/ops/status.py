"""Everything the page shows, as JSON. `docs/operations.md` describes the shapes; a newer one only adds fields."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from workers.estimates import Seconds, learn
from workers.ops.board import Board
from workers.ops.card import CardNow
from workers.ops.history import MINUTE, Archive, Ring, Row, bucketed
from workers.ops.table import QUEUE_WAIT, SUCCESS, as_json, costs, table
from workers.ops.terms import Terms
from workers.supervision.ledger import Entry

VERSION = 1
SHOWN = 50
POINTS = 288
DAY = 86_400.0


def live(board: Board, card: CardNow | None) -> dict[str, Any]:
    """What may change every second."""
    return {
        "at": stamp(time.time()),
        "ready": not board.problems(),
        "problems": board.problems(),
        "workers": [asdict(worker) for worker in board.workers()],
        "queues": [asdict(queue) for queue in board.queues()],
        "card": asdict(card) if card else None,
        "idle_share": {"minute": board.idle_share(60), "ten_minutes": board.idle_share(600)},
    }


def standing(terms: Terms, archive: Archive) -> dict[str, Any]:
    """What changes with every job."""
    entries = archive.entries()
    return {
        "types": as_json(table(terms.presets, entries, terms.ceiling)),
        "estimates": with_totals(learn(entries)),
    }


def summary(terms: Terms, archive: Archive, ring: Ring) -> dict[str, Any]:
    """What changes with every job, or every minute."""
    return {**standing(terms, archive), "costs": costs(ring.read(time.time() - DAY), terms.price)}


def status(terms: Terms, board: Board, card: CardNow | None, archive: Archive, ring: Ring) -> dict[str, Any]:
    """All of it: for whoever opens the page, and for scripts."""
    return {
        "version": VERSION,
        "host": terms.host,
        "local": terms.submits,
        "pictures": terms.pictures,
        "targets": {"success": SUCCESS, "queue_wait": QUEUE_WAIT},
        "up": round(time.monotonic() - board.began, 1),
        **live(board, card),
        **summary(terms, archive, ring),
        "jobs": [job(entry) for entry in archive.entries()[: -SHOWN - 1 : -1]],
    }


def job(entry: Entry) -> dict[str, Any]:
    """One job that ended. Where its files lie stays here: the page asks for them by job and number."""
    files = [
        {"content_type": f.content_type, "bytes": f.bytes, "thumbnail": f.thumbnail is not None} for f in entry.files
    ]
    return {
        "job": entry.job,
        "type": entry.type,
        "status": entry.status,
        "at": stamp(entry.at),
        "attempt": entry.attempt,
        "reason": entry.reason,
        "error_type": entry.error_type,
        "wait": round(entry.wait, 3),
        "work": round(entry.work, 3),
        "timings": entry.timings,
        "facts": entry.facts,
        "files": files,
    }


def past(ring: Ring, hours: float) -> dict[str, Any]:
    """Rows for plots, at most POINTS of them: each covers `seconds`."""
    seconds = max(MINUTE, round(hours * 3600 / POINTS / MINUTE) * MINUTE)
    return {"seconds": seconds, "rows": bucketed(ring.read(time.time() - hours * 3600), seconds, merged)}


def merged(rows: Sequence[Row]) -> Row:
    """Several minutes as one row: counts and seconds summed up, states as they were last."""
    jobs: dict[str, list[float]] = {}
    for row in rows:
        for job_type, counts in row.get("jobs", {}).items():
            jobs[job_type] = [a + b for a, b in zip(jobs.get(job_type, [0.0] * 5), counts, strict=True)]
    shares = [row["idle"] for row in rows if row.get("idle") is not None]
    return {
        "until": rows[-1].get("until", rows[-1]["t"] + MINUTE),
        "seconds": round(sum(row.get("seconds", 0.0) for row in rows), 1),
        "failed": round(sum(row.get("failed", 0.0) for row in rows), 2),
        "queues": rows[-1].get("queues", {}),
        "busy": {kind: round(sum(r.get("busy", {}).get(kind, 0.0) for r in rows), 2) for kind in rows[-1]["busy"]},
        "idle": round(sum(shares) / len(shares), 4) if shares else None,
        "commands": sum(row.get("commands", 0) for row in rows),
        "ready": min(row.get("ready", 0) for row in rows),
        "jobs": {job_type: [round(value, 2) for value in counts] for job_type, counts in jobs.items()},
    }


def with_totals(estimates: dict[str, dict[str, float]]) -> dict[str, Seconds]:
    return {name: {**phases, "total": round(sum(phases.values()), 3)} for name, phases in estimates.items()}


def stamp(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
