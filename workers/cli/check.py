"""Is everything there that a worker needs?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from workers.cli.screen import PROBLEMS, AsJson, emit, out, tracked

if TYPE_CHECKING:
    from workers.cli.checks import Finding

MARKS = {"ok": "✓", "note": "i", "problem": "✗"}
COLOURS = {"ok": "green", "note": "cyan", "problem": "red"}


def check(as_json: AsJson = False) -> None:
    """Look at settings, volume, card, queue, storage and callback; list every problem with its fix.

    Exit code 1 if there is any.
    """
    found = _all_findings()
    good = all(finding.state != "problem" for _, finding in found)
    if as_json:
        emit({"ok": good, "findings": [{"subject": s, "state": f.state, "text": f.text} for s, f in found]})
    else:
        _print(found)
    if not good:
        raise typer.Exit(PROBLEMS)


def _all_findings() -> list[tuple[str, Finding]]:
    from workers.cli.checks import CHECKS, findings
    from workers.known import known_settings

    known = known_settings()
    asked = tracked(CHECKS.items(), "checking")
    return [(subject, finding) for subject, check in asked for finding in findings(check, known)]


def _print(found: list[tuple[str, Finding]]) -> None:
    screen = out()
    for subject, finding in found:
        screen.print(MARKS[finding.state], style=COLOURS[finding.state], end=" ")
        screen.print(f"{subject:<10}  {finding.text}")
    problems = sum(finding.state == "problem" for _, finding in found)
    screen.print(f"{problems} problems" if problems != 1 else "1 problem")
