"""Brings back jobs that the queue forgot, as when redis comes back from an older copy of itself.

It runs in a thread of the supervisor, beside the main one: its calls may take seconds each, and signals and dead
workers must not wait for them. A process of its own would need supervision itself.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from workers.delivery.verdict import Verdict
from workers.errors import Unreachable
from workers.job import Outcome
from workers.logs import describe, log

INTERVAL = 120.0
PATIENCE = 120.0
MEMORY = 86_000.0
"""Results and cancellations are remembered for a day: of an older job nobody can say whether it was ever made."""

LOST = "The job was lost and could not be restored. Please try again."

Row = Mapping[str, Any]


class Rows(Protocol):
    def open_between(self, oldest: float, newest: float) -> Sequence[Row]: ...
    def of(self, job_ids: Sequence[str]) -> Sequence[Row]: ...


class Queue(Protocol):
    def missing(self, jobs: Mapping[str, float], *, who: str, lead: float, margin: float) -> list[str]: ...
    def restore(self, job_id: str, payload: str) -> bool: ...


class Callbacks(Protocol):
    def send(self, outcome: Outcome, user_id: str) -> Verdict: ...


class Reconciler:
    """Compares the open jobs of the database with the queues, every `interval` seconds.

    `queues` are by kind of worker, `kinds` says which kind makes a job type. One of all the reconcilers of a queue
    leads. `patience` is how long a job is taken to be on its way, in seconds.
    """

    def __init__(
        self,
        rows: Rows,
        queues: Mapping[str, Queue],
        callbacks: Callbacks,
        *,
        kinds: Mapping[str, str],
        who: str,
        interval: float = INTERVAL,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows, self._queues, self._callbacks = rows, queues, callbacks
        self._kinds, self._who = kinds, who
        self._interval, self._patience = interval, patience
        self._clock = clock
        self._closed = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="reconcile", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def reconcile(self) -> None:
        """One comparison. Raises `Unreachable`."""
        now = self._clock()
        rows = self._rows.open_between(now - MEMORY, now - self._patience)
        for kind, queue in self._queues.items():
            made = {row["id"]: made_at(row) for row in rows if self._kinds.get(row["job_type"]) == kind}
            if not made:
                continue
            lost = queue.missing(made, who=self._who, lead=self._interval * 0.9, margin=self._patience)
            for row in sorted(self._rows.of(lost) if lost else (), key=made_at, reverse=True):
                self._bring_back(row, queue)

    def _bring_back(self, row: Row, queue: Queue) -> None:
        """The oldest comes last, and so is served first."""
        text = rebuilt(row)
        if text is None:
            self._give_up(row)
        elif queue.restore(row["id"], text):
            log.warning("job restored", job=row["id"], type=row["job_type"])

    def _give_up(self, row: Row) -> None:
        outcome = Outcome(row["id"], row["job_type"], "failed", error_message=LOST, error_type="failed")
        verdict = self._callbacks.send(outcome, row["user_id"])
        log.error("job lost", job=row["id"], type=row["job_type"], callback=verdict.reason)

    def _run(self) -> None:
        while not self._closed.wait(self._interval):
            try:
                self.reconcile()
            except Unreachable as error:
                log.warning("cannot reconcile", reason=str(error))
            except Exception as error:
                log.error("cannot reconcile", **describe(error))


def rebuilt(row: Row) -> str | None:
    """The message of a job: as the row has kept it, else made anew. None where the row does not hold the prompt."""
    kept = row.get("payload")
    if isinstance(kept, Mapping) and kept.get("id") == row["id"]:
        return _compact(kept)
    metadata = row.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("prompt"), str):
        return None
    links = {name: row[name] for name in ("image_id", "video_id") if row.get(name)}
    message = {
        "id": row["id"],
        "type": row["job_type"],
        "prompt": metadata["prompt"],
        "config": {},
        "user_id": row["user_id"],
        "created_at": row["created_at"],
        "metadata": {name: value for name, value in metadata.items() if name != "prompt"},
    }
    return _compact(message | links)


def _compact(message: Mapping[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def made_at(row: Row) -> float:
    """The epoch in seconds."""
    return datetime.fromisoformat(row["created_at"]).timestamp()
