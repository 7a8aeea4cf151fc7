"""Is this file ours? Looks for every mark that our files carry, also in copies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.screen import PROBLEMS, AsJson, emit, fail, out, tracked

if TYPE_CHECKING:
    from workers.cli.evidence import Evidence, Examiner, Mark
    from workers.provenance.credentials import Credential

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="Pictures or films.")]
KeysIn = Annotated[Path | None, typer.Option("--keys", metavar="DIR", help="Default: PROVENANCE_DIR.")]
AuditIn = Annotated[Path | None, typer.Option("--audit", metavar="DIR", help="Default: AUDIT_DIR.")]
Trust = Annotated[
    list[Path] | None, typer.Option("--trust", metavar="PEM", exists=True, help="Root certificates to trust as well.")
]
COLOURS = {"ours": "green", "altered": "red", "says so": "yellow", "nothing": "yellow", "unreadable": "red"}


def verify(
    files: Files, keys: KeysIn = None, audit: AuditIn = None, trust: Trust = None, as_json: AsJson = False
) -> None:
    """Say what is found in each file: content credentials, texts, the mark in its pixels, and what the registry knows.

    Exit code 0 if all are ours, 1 if any is not. Texts alone do not count: anybody can write them.
    """
    examiner = _examiner(keys, audit, trust or [])
    found = [examiner.examine(path) for path in tracked(files, "looking")]
    if as_json:
        emit([evidence.as_json() for evidence in found])
    else:
        for evidence in found:
            _print(evidence)
    if any(evidence.verdict != "ours" for evidence in found):
        raise typer.Exit(PROBLEMS)


def _examiner(keys_in: Path | None, audit: Path | None, trust: list[Path]) -> Examiner:
    from workers.cli.evidence import Examiner, open_registry
    from workers.known import known_settings
    from workers.provenance.chain import read_keys
    from workers.safety.scorers import fingerprint

    settings = known_settings().settings
    folder = keys_in or settings.provenance
    if keys_in is not None and not keys_in.is_dir():
        raise fail(f"{keys_in} is no folder.")
    keys = read_keys(folder) if folder.is_dir() else None
    roots = [path.read_text() for path in trust] + ([keys.root] if keys is not None else [])
    return Examiner(keys, open_registry(audit or settings.audit), "\n".join(roots), fingerprint)


def _print(evidence: Evidence) -> None:
    screen = out()
    screen.print(evidence.file, end="  ")
    screen.print(evidence.verdict, style=COLOURS[evidence.verdict])
    for name, text in _lines(evidence).items():
        screen.print(f"  {name:<12} {text}")


def _lines(evidence: Evidence) -> dict[str, str]:
    texts = evidence.texts
    source = (texts.source_type or "none").rpartition("/")[2]
    said = [source, texts.generator, texts.job and f"job {texts.job}", texts.seed and f"seed {texts.seed}"]
    return {
        "credentials": _credentials(evidence.credential),
        "XMP": ", ".join(filter(None, said)),
        "parameters": texts.parameters or "none",
        "watermark": _watermark(evidence.mark),
        "registry": _registry(evidence),
    }


def _credentials(found: Credential | None) -> str:
    if found is None:
        return "none"
    source = (found.source_type or "").rpartition("/")[2]
    parts = [found.generator and f"by {found.generator}", found.issuer and f"signed by {found.issuer}", source]
    problems = f"; {', '.join(found.problems)}" if found.problems else ""
    return ", ".join([found.state, *filter(None, parts)]) + problems


def _watermark(mark: Mark | None) -> str:
    if mark is None:
        return "not looked for"
    where = f"{mark.code}, confidence {mark.confidence:.1f} at {mark.side} px"
    for match in mark.jobs:
        return f"job {match.job_id}, {match.errors} of 32 bits wrong (chance {match.chance:.0e}); {where}"
    return f"ours, of a job that is not known here; {where}" if mark.own else f"none that can be read; {where}"


def _registry(evidence: Evidence) -> str:
    if evidence.job:
        return f"this very file, of job {evidence.job}"
    looks = [f"{copy.job}/{copy.position} ({copy.distance} of 64 bits)" for copy in evidence.copies]
    return f"looks like {', '.join(looks)}" if looks else "not known"
