"""The long forms of the trials, each with a table at its end: crashes, freezes, network, failovers.

The exit code is 0 only when no promise was broken.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from bench.chaos.crashes import crash_once, tasks_of
from bench.chaos.failover import fail_over
from bench.chaos.history import Finding
from bench.chaos.hung import freeze_once, freezes_of
from bench.chaos.lanes import Lanes
from bench.chaos.network import storm
from bench.chaos.nursery import Nursery
from bench.chaos.scenes import SCENES
from bench.chaos.table import crash_rows, crash_table, failover_table, freeze_table, storm_table
from workers import logs

LANES = 8
SHOWN = 20
WIDTH = 110
T = TypeVar("T")
console = Console()
console.width = max(console.width, WIDTH)
logs.configure(level="error")


def crashes(options: argparse.Namespace) -> bool:
    tasks = tasks_of(options.points or list(SCENES), options.trials)
    with Lanes(options.lanes) as lanes:
        trials = list(_tracked(lanes.run(crash_once, tasks), len(tasks)))
    rows = crash_rows(trials)
    console.print(crash_table(rows))
    _show(finding for trial in trials for finding in trial.findings)
    return all(row.ok for row in rows)


def freezes(options: argparse.Namespace) -> bool:
    tasks = list(freezes_of(options.trials))
    with Lanes(options.lanes) as lanes:
        frozen = list(_tracked(lanes.run(freeze_once, tasks), len(tasks)))
    console.print(freeze_table(frozen))
    _show(finding for freeze in frozen for finding in freeze.findings)
    return not any(freeze.findings for freeze in frozen)


def network(options: argparse.Namespace) -> bool:
    with Nursery() as nursery:
        passed = storm(nursery, options.jobs, seed=options.seed)
    console.print(storm_table(passed))
    _show(passed.findings)
    return not (passed.findings or passed.leftovers)


def failovers(options: argparse.Namespace) -> bool:
    with Nursery() as nursery:
        passed = fail_over(nursery, options.jobs, seed=options.seed)
    console.print(failover_table(passed))
    _show(passed.findings)
    return not passed.findings


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    return 0 if options.run(options) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    commands = parser.add_subparsers(required=True)
    crash = commands.add_parser("crashes", help="kill workers at every named point")
    crash.add_argument("--trials", type=int, default=200, help="deaths at each point, both kinds together")
    crash.add_argument("--points", nargs="*", choices=list(SCENES), help="only these")
    crash.set_defaults(run=crashes)
    freeze = commands.add_parser("freezes", help="freeze workers for longer than their lease")
    freeze.add_argument("--trials", type=int, default=100)
    freeze.set_defaults(run=freezes)
    for command in (crash, freeze):
        command.add_argument("--lanes", type=int, default=LANES, help="trials at a time")
    lossy = commands.add_parser("network", help="send jobs through a lossy network, with kills and restarts of redis")
    lossy.set_defaults(run=network)
    lagging = commands.add_parser("failovers", help="set redis back to older copies, with the reconciler")
    lagging.set_defaults(run=failovers)
    for command, jobs in ((lossy, 5000), (lagging, 800)):
        command.add_argument("--jobs", type=int, default=jobs)
        command.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def _tracked(results: Iterable[T], total: int) -> Iterator[T]:
    yield from track(results, "Trials", total=total, console=console)


def _show(findings: Iterable[Finding]) -> None:
    for finding in list(findings)[:SHOWN]:
        console.print(f"[red]{finding.rule}[/] {finding.job} {finding.detail}")


if __name__ == "__main__":
    sys.exit(main())
