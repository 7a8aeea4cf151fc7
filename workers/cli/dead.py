"""Jobs that were given up, and callbacks to be sent again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.screen import AsJson, emit, fail, out

if TYPE_CHECKING:
    from workers.claim import DeadEntry
    from workers.cli.queues import QueueView
    from workers.report import Report
    from workers.settings import Settings

dead = typer.Typer(help="Jobs that were given up: look at them, put them back.", no_args_is_help=True)

Entry = Annotated[str, typer.Argument(metavar="ID", help="Id of the entry or of its job.", show_default=False)]
Entries = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of entries or jobs.", show_default=False)]
Most = Annotated[int, typer.Option("--count", min=1, help="Show at most so many of each queue, the newest first.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", show_default=False)]


@dead.command("list")
def list_dead(count: Most = 50, as_json: AsJson = False) -> None:
    """List what was given up, without its contents."""
    from workers.cli.queues import views
    from workers.settings import load_settings

    with views(load_settings()) as opened:
        found = [(view.name, entry) for view in opened for entry in islice(view.dead(), count)]
    if as_json:
        emit([{"queue": name, **_header(entry)} for name, entry in found])
    elif found:
        _print_table(found)
    else:
        out().print("Nothing was given up.")


@dead.command()
def show(entry_id: Entry, as_json: AsJson = False) -> None:
    """Print one entry with its queue element, prompt included."""
    from workers.cli.queues import views
    from workers.settings import load_settings

    with views(load_settings()) as opened:
        view, entry = _find(opened, entry_id)
    if as_json:
        emit({"queue": view.name, **asdict(entry)})
    else:
        for name, value in {"queue": view.name, **_header(entry)}.items():
            out().print(f"{name}: {value}")
        out().print(_readable(entry.body))


@dead.command()
def requeue(entry_ids: Entries) -> None:
    """Put entries back to the end of their queue, with all counts at zero."""
    from workers.cli.queues import views
    from workers.settings import load_settings

    with views(load_settings()) as opened:
        for entry_id in entry_ids:
            view, entry = _find(opened, entry_id)
            if not view.queue.requeue(entry.id):
                raise fail(f"{entry_id} is no longer on the dead list.")
            out().print(f"{entry.job_id or entry.id} waits in {view.name}")


def replay(job_id: JobId) -> None:
    """Send the callback of a job again, from the result remembered for a day."""
    from workers.kinds import open_callbacks
    from workers.settings import load_settings

    settings = load_settings()
    report = _remembered(settings, job_id)
    callbacks = open_callbacks(settings)
    try:
        verdict = callbacks.send(report.outcome, report.user_id)
        if not verdict.accepted:
            raise fail(f"The callback was not accepted: {verdict.reason}.")
        callbacks.adopt_image(report.outcome)
    finally:
        callbacks.close()
    out().print(f"{job_id}: {report.outcome.status}, {len(report.outcome.deliveries)} assets, accepted")


def _remembered(settings: Settings, job_id: str) -> Report:
    from workers.cli.queues import views
    from workers.report import Report

    with views(settings) as opened:
        found = next(filter(None, (view.remembered(job_id) for view in opened)), None)
    if found is None:
        raise fail(f"No result of job {job_id} is remembered; `dead requeue` makes it anew.")
    try:
        return Report.from_record(found.record)
    except (KeyError, TypeError):
        raise fail("The remembered result was written by another version of the workers.") from None


def _find(opened: Iterable[QueueView], wanted: str) -> tuple[QueueView, DeadEntry]:
    for view in opened:
        for entry in view.dead():
            if wanted in (entry.id, entry.job_id):
                return view, entry
    raise fail(f"{wanted} is not on a dead list; `dead list` shows what is.")


def _header(entry: DeadEntry) -> dict[str, str | float | None]:
    return {"id": entry.id, "job_id": entry.job_id, "at": _when(entry), "reason": entry.reason}


def _when(entry: DeadEntry) -> str:
    return datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _readable(body: str) -> str:
    """Indented where it is JSON, else as it is; bytes that are no text as escapes."""
    with contextlib.suppress(ValueError, RecursionError):
        body = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return body.encode("utf-8", "backslashreplace").decode()


def _print_table(found: Iterable[tuple[str, DeadEntry]]) -> None:
    from rich.table import Table

    table = Table("id", "queue", "job", "since", "reason", box=None)
    for name, entry in found:
        table.add_row(entry.id, name, entry.job_id or "", _when(entry), entry.reason)
    out().print(table)
