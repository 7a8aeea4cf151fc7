"""Follow one job through what the queue says of it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from workers.cli.queues import QueueView
from workers.cli.screen import err

POLL = 1.0
NEWEST_DEAD = 50
WAITING = "waiting"
NOT_REPORTED = (
    "The callback was not accepted. A job pushed by hand has no row in the database, so July's receiver cannot know it."
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended.

    completed: made and reported. stored: made and uploaded, but its callback was not accepted. failed: not made.
    unknown: the time was up. `assets` are bucket and path of each object.
    """

    state: str
    seconds: float
    assets: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def good(self) -> bool:
        return self.state in ("completed", "stored")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def follow(view: QueueView, job_id: str, limit: float, poll: float = POLL) -> Ending:
    """Wait for the job's end with a progress bar. Raises `Unreachable`."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    began = time.monotonic()
    screen = err()
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
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
    record, outcome = remembered.record, remembered.record["outcome"]
    assets = tuple(f"{delivery['bucket']}/{delivery['path']}" for delivery in outcome["deliveries"])
    if remembered.delivered or record["accepted"]:
        return Ending(outcome["status"], seconds, assets, outcome["error_message"])
    if not (record["failures"] or _was_given_up(view, job_id)):
        return None
    if outcome["status"] == "failed":
        return Ending("failed", seconds, reason=outcome["error_message"])
    return Ending("stored", seconds, assets, NOT_REPORTED)


def _was_given_up(view: QueueView, job_id: str) -> bool:
    return any(entry.job_id == job_id for entry in islice(view.dead(), NEWEST_DEAD))
