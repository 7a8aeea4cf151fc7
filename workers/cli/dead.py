"""Jobs that were given up, and callbacks to be sent again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from workers.cli.screen import AsJson, emit, fail, out

dead = typer.Typer(help="Jobs that were given up: look at them, put them back.", no_args_is_help=True)

Entry = Annotated[str, typer.Argument(metavar="ID", help="Id of the entry or of its job.", show_default=False)]
Entries = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of entries or jobs.", show_default=False)]
Most = Annotated[int, typer.Option("--count", min=1, help="Show at most so many of each queue, the newest first.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", show_default=False)]


@dead.command("list")
def list_dead(count: Most = 50, as_json: AsJson = False) -> None:
    """List what was given up, without its contents."""
    from workers.ops import actions
    from workers.settings import load_settings

    found = actions.dead(load_settings(), count)
    if as_json:
        emit(found)
    elif found:
        _print_table(found)
    else:
        out().print("Nothing was given up.")


@dead.command()
def show(entry_id: Entry, as_json: AsJson = False) -> None:
    """Print one entry with its queue element, prompt included."""
    from workers.cli.queues import views
    from workers.ops import actions
    from workers.settings import load_settings

    with _sentences(), views(load_settings()) as opened:
        view, entry = actions.find(opened, entry_id)
    if as_json:
        emit({"queue": view.name, **asdict(entry)})
    else:
        for name, value in {"queue": view.name, **actions.header(entry)}.items():
            out().print(f"{name}: {value}")
        out().print(_readable(entry.body))


@dead.command()
def requeue(entry_ids: Entries) -> None:
    """Put entries back to the end of their queue, with all counts at zero."""
    from workers.ops import actions
    from workers.settings import load_settings

    settings = load_settings()
    for entry_id in entry_ids:
        with _sentences():
            done = actions.requeue(settings, entry_id)
        out().print(f"{done['job_id'] or done['id']} waits in {done['queue']}")


def replay(job_id: JobId) -> None:
    """Send the callback of a job again, from the result remembered for a day."""
    from workers.ops import actions
    from workers.settings import load_settings

    with _sentences():
        said = actions.replay(load_settings(), job_id)
    out().print(f"{job_id}: {said['status']}, {said['assets']} assets, accepted")


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """What cannot be done ends the command with the reason."""
    from workers.ops import actions

    try:
        yield
    except (actions.NotThere, actions.NotAccepted) as error:
        raise fail(str(error)) from None


def _readable(body: str) -> str:
    """Indented where it is JSON, else as it is; bytes that are no text as escapes."""
    with contextlib.suppress(ValueError, RecursionError):
        body = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return body.encode("utf-8", "backslashreplace").decode()


def _print_table(found: Iterable[Mapping[str, Any]]) -> None:
    from rich.table import Table

    table = Table("id", "queue", "job", "since", "reason", box=None)
    for entry in found:
        table.add_row(entry["id"], entry["queue"], entry["job_id"] or "", entry["at"], entry["reason"])
    out().print(table)
