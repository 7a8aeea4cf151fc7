"""What the gates wrote down: is it whole, what does it say."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from workers.cli.screen import AsJson, emit, fail, out

audit = typer.Typer(help="The chain of the gates' decisions: verify it, look into it.", no_args_is_help=True)

Job = Annotated[str, typer.Option("--job", metavar="JOB", help="Only lines about this job.", show_default=False)]
Event = Annotated[str, typer.Option("--event", help="Only lines of this kind, such as blocked.", show_default=False)]
Count = Annotated[int, typer.Option("--count", min=1, help="At most so many, the newest.")]


@audit.command()
def verify(as_json: AsJson = False) -> None:
    """Read every line of every chain again. Exit code 1 where one was changed, taken out or put in."""
    from workers.known import known_settings
    from workers.safety.audit import chains
    from workers.safety.guards import audit_key
    from workers.safety.proof import prove

    settings = known_settings().settings
    key = audit_key(settings)
    proofs = [prove(settings.audit, name, key) for name in chains(settings.audit)]
    if as_json:
        emit([asdict(proof) for proof in proofs])
    for proof in () if as_json else proofs:
        seals = f"{proof.sealed} sealed with this key" + (f", {proof.foreign} not" if proof.foreign else "")
        out().print(f"{proof.chain}: {proof.fault or 'whole'}, {proof.lines} lines, {seals}, head {proof.head}")
    if not proofs and not as_json:
        out().print(f"There is no audit in {settings.audit}.")
    if any(proof.fault for proof in proofs):
        raise typer.Exit(1)


@audit.command()
def show(job: Job = "", event: Event = "", count: Count = 50, as_json: AsJson = False) -> None:
    """Print lines of all chains in the order of their time. They hold no prompt and no name."""
    from workers.known import known_settings
    from workers.safety.audit import records

    wanted = {name: value for name, value in {"job": job, "event": event}.items() if value}
    lines = [line for line in records(known_settings().settings.audit) if wanted.items() <= line.items()]
    newest = sorted(lines, key=lambda line: line["at"])[-count:]
    if as_json:
        emit(newest)
    for line in () if as_json else newest:
        out().print(_readable(line))


@audit.command("hash-names")
def hash_names() -> None:
    """Read names, one a line, and print the hashes that a list of real persons holds instead of them."""
    from workers.safety.persons import key

    names = [name for line in sys.stdin if (name := line.strip())]
    if not names:
        raise fail("Give names on standard input, one a line.")
    out().print("\n".join(sorted({key(name) for name in names})))


def _readable(line: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(line["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    hidden = ("n", "prev", "at", "event", "hash", "key", "seal", "outputs", "blocked")
    facts = " ".join(f"{name}={value}" for name, value in line.items() if name not in hidden and value is not None)
    return f"{when} {line['event']} {facts}"
