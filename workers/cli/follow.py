"""Follow one job through what the queue says of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from workers.cli.queues import QueueView
from workers.cli.screen import err

POLL = 1.0
NEWEST_DEAD = 50
WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended.

    completed, failed: its callback was accepted. given up: the result lies in storage, but no callback was accepted.
    unknown: the time was up. `assets` are bucket and path of each object.
    """

    state: str
    seconds: float
    assets: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def good(self) -> bool:
        return self.state == "completed"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def follow(view: QueueView, job_id: str, limit: float, poll: float = POLL) -> Ending:
    """Wait for the job's end with a progress bar. Raises `Unreachable`."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    began = time.monotonic()
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task(WAITING, total=100)
        while (spent := time.monotonic() - began) < limit:
            if ending := ended(view, job_id, spent):
                return ending
            now = view.progress(job_id)
            bar.update(task, description=str(now.get("phase") or WAITING), completed=float(now.get("percent") or 0))
            time.sleep(poll)
    return Ending("unknown", limit, reason=f"The job had not ended after {limit:.0f} s; it goes on.")


def ended(view: QueueView, job_id: str, seconds: float) -> Ending | None:
    """None while the job is on its way."""
    remembered = view.remembered(job_id)
    if remembered is None:
        return None
    record = remembered.record
    outcome, assets = record["outcome"], _assets(record["outcome"])
    if remembered.delivered or record["accepted"]:
        return Ending(outcome["status"], seconds, assets, outcome["error_message"])
    for entry in islice(view.dead(), NEWEST_DEAD):
        if entry.job_id == job_id:
            state = "given up" if outcome["status"] == "completed" else "failed"
            return Ending(state, seconds, assets, entry.reason)
    return None


def _assets(outcome: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{delivery['bucket']}/{delivery['path']}" for delivery in outcome["deliveries"])
