"""All commands under one name."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from workers.cli.audit import audit
from workers.cli.baseline import baseline
from workers.cli.check import check
from workers.cli.dead import dead, replay
from workers.cli.demo import demo
from workers.cli.models import models
from workers.cli.pause import pause, resume
from workers.cli.prompt import prompt
from workers.cli.run import run, supervise
from workers.cli.screen import Commands
from workers.cli.status import status
from workers.cli.submit import submit
from workers.cli.takedown import forget, takedown
from workers.cli.verify import verify

app = typer.Typer(
    name="workers",
    cls=Commands,
    help="Two GPU workers that turn queued jobs into pictures and short videos.",
    epilog="Exit codes: 0 done, 1 problems or missing settings, 2 wrong usage, 64 a setting with a wrong value.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    demo, run, supervise, check, submit, prompt, status, pause, resume, replay, baseline, takedown, forget, verify,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.add_typer(audit, name="audit")
app.add_typer(dead, name="dead")
app.add_typer(models, name="models")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name, by default the process's own, and exit with its code."""
    app(args=arguments, prog_name="python -m workers")
