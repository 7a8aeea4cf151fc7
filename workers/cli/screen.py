"""What commands say: results to stdout, everything else to stderr, and sentences instead of traces."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from workers.errors import Misconfigured, Unreachable

if TYPE_CHECKING:
    from rich.console import Console

PROBLEMS = 1
WIDE = 200
Item = TypeVar("Item")
HINT = "`python -m workers check` tells more."

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


class Commands(TyperGroup):
    """A group whose commands may let expected errors pass: here they become sentences and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        _logs_to_stderr()
        try:
            return super().invoke(ctx)
        except Misconfigured as error:
            complain(error.problems)
            code = error.exit_code
        except Unreachable as error:
            complain([f"{error} {HINT}"])
            code = PROBLEMS
        raise typer.Exit(code)


def complain(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        print(f"error: {sentence}", file=sys.stderr)


def fail(sentence: str) -> typer.Exit:
    """Say what is wrong; raise the result to end the command with exit code 1."""
    complain([sentence])
    return typer.Exit(PROBLEMS)


def emit(value: Any) -> None:
    """ASCII only, so that a queue element that is not text can be printed too."""
    print(json.dumps(value, indent=2))


def out() -> Console:
    """For results. What is not a terminal has room for whole tables."""
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def err() -> Console:
    """For progress, which then does not mix with results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)


def tracked(items: Collection[Item], description: str) -> Iterable[Item]:
    """The items, with a progress bar on a terminal while they are worked on."""
    from rich.progress import track

    screen = err()
    return track(items, description, console=screen, transient=True, disable=not screen.is_terminal)


def size_of(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _logs_to_stderr() -> None:
    """Warnings of the parts that commands call; a worker sets up its own logs."""
    import logging

    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
