"""Commands that become a worker or the supervisor of both."""

from __future__ import annotations

from typing import Annotated

import typer

Kind = Annotated[str, typer.Argument(help="Kind of worker: sdxl or wan.", show_default=False)]
Only = Annotated[str | None, typer.Option("--only", metavar="KIND", help="Start one kind only.", show_default=False)]


def run(kind: Kind) -> None:
    """Run one worker until it is told to stop.

    SIGTERM or Ctrl-C lets it finish within DRAIN_SECONDS, a second one hands its jobs back at once.
    """
    from workers.boot import run_worker

    run_worker(known_kind(kind))


def supervise(only: Only = None) -> None:
    """Run both workers, and start them again whenever one dies."""
    from workers.supervision.orchestrate import run_supervisor

    raise typer.Exit(run_supervisor(only and known_kind(only)))


def known_kind(kind: str) -> str:
    from workers.kinds import KINDS

    if kind not in KINDS:
        raise typer.BadParameter(f"there is no worker kind {kind!r}; there are {', '.join(KINDS)}")
    return kind
