"""Measure jobs of every type, and say what became worse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.screen import PROBLEMS, AsJson, emit, err, fail, out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.job import Preset
    from workers.ops.baseline import Baseline

Jobs = Annotated[int, typer.Option("--jobs", min=1, help="How many of each type.")]
Types = Annotated[list[str] | None, typer.Option("--type", metavar="TYPE", help="Only these; may be repeated.")]
Folder = Annotated[Path, typer.Option("--folder", help="Where baseline.md, .json and .svg go.")]
Against = Annotated[Path | None, typer.Option(help="An earlier baseline.json; by default the one in the folder.")]
Limit = Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Longest time for one job of each type.")]
CeilingGb = Annotated[float, typer.Option("--ceiling", metavar="GIB", help="Of the card for one job; 0 is no limit.")]


def baseline(
    *,
    jobs: Jobs = 3,
    types: Types = None,
    folder: Folder = Path("baseline"),
    against: Against = None,
    limit: Limit = 1800.0,
    ceiling: CeilingGb = 46.0,
    as_json: AsJson = False,
) -> None:
    """Push jobs of each type, wait, and write a table of what they cost; exit code 1 if promises are not kept (more
    than 95 % completed, less than 5 minutes in the queue, memory) or something is a tenth slower than before.

    Nothing of the jobs is left: they have no rows in the database, and their files are deleted.
    """
    from workers.ops import baseline as measuring
    from workers.ops.report_files import write
    from workers.settings import load_settings

    settings, presets = load_settings(), _chosen(types)
    earlier = _earlier(against, folder)
    entries = measuring.measure(settings, presets, jobs=jobs, limit=limit, tell=err().print)
    found = measuring.judged(
        entries, presets, jobs=jobs, host=settings.worker_name, ceiling=round(ceiling * 2**30), earlier=earlier
    )
    paths = write(found, folder)
    if as_json:
        emit(found.as_json())
    else:
        _tell(found, paths)
    if not found.good:
        raise typer.Exit(PROBLEMS)


def _chosen(types: list[str] | None) -> Mapping[str, Preset]:
    from workers.tables import load_presets

    presets = load_presets()
    for name in types or ():
        if name not in presets:
            raise typer.BadParameter(f"there is no job type {name!r}; there are {', '.join(presets)}")
    return {name: preset for name, preset in presets.items() if not types or name in types}


def _earlier(against: Path | None, folder: Path) -> dict[str, Any] | None:
    path = against or folder / "baseline.json"
    if against is None and not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise fail(f"{path} is no baseline.") from None


def _tell(found: Baseline, paths: list[Path]) -> None:
    from workers.ops.report_files import markdown

    screen = out()
    screen.print(markdown(found))
    screen.print(", ".join(str(path) for path in paths))
