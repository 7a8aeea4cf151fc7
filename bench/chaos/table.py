"""What trials came to, as a table for people and as the one bit that scripts want."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.chaos.crashes import Trial
from bench.chaos.failover import Failover
from bench.chaos.history import Finding
from bench.chaos.hung import Freeze
from bench.chaos.network import Storm

LOST = frozenset({"lost", "not drained", "failed", "unseen"})


@dataclass(frozen=True, slots=True)
class Row:
    """All trials of one point. Recoveries in seconds, ascending."""

    point: str
    trials: int
    lost: int
    wrong: int
    resent: int
    leftovers: int
    recoveries: tuple[float, ...]

    @property
    def ok(self) -> bool:
        return not (self.lost or self.wrong or self.leftovers)

    def cells(self) -> list[str]:
        counts = (self.trials, self.lost, self.wrong, self.resent, self.leftovers)
        return [self.point, *map(str, counts), *(f"{quantile(self.recoveries, share):.2f}" for share in (0.5, 0.99))]


def quantile(ascending: Sequence[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


def crash_rows(trials: Iterable[Trial]) -> list[Row]:
    """One row for each point in the order in which they come, and one for all."""
    by_point: dict[str, list[Trial]] = {}
    for trial in trials:
        by_point.setdefault(trial.point, []).append(trial)
    rows = [_row(point, of_point) for point, of_point in by_point.items()]
    return [*rows, _row("all", [trial for of_point in by_point.values() for trial in of_point])]


def crash_table(rows: Sequence[Row]) -> Table:
    heads = ("died at", "trials", "lost", "double effects", "re-sent", "keys left over", "recovery p50 s", "p99 s")
    return _table("Killed workers", heads, [row.cells() for row in rows])


def freeze_table(freezes: Sequence[Freeze]) -> Table:
    heads = ("froze at", "trials", "broken rules", "taken over after p50 s", "p99 s")
    points = dict.fromkeys(freeze.point for freeze in freezes)
    rows = [_freeze_cells(point, [freeze for freeze in freezes if freeze.point == point]) for point in points]
    return _table("Workers frozen past their lease", heads, [*rows, _freeze_cells("all", freezes)])


def _freeze_cells(point: str, freezes: Sequence[Freeze]) -> list[str]:
    times = sorted(freeze.took_over for freeze in freezes)
    broken = _words(finding for freeze in freezes for finding in freeze.findings)
    return [point, str(len(freezes)), broken, f"{quantile(times, 0.5):.2f}", f"{quantile(times, 0.99):.2f}"]


def storm_table(storm: Storm) -> Table:
    facts = {
        "acknowledged jobs": storm.acknowledged,
        "enqueues refused by the weather": storm.refused,
        "completed": storm.completed,
        "given up with a word to the user": storm.failed,
        "callbacks accepted again": storm.resent,
        **{f"blow: {name.replace('_', ' ')}": count for name, count in sorted(storm.blows.items())},
        **{f"fault: {name.replace('_', ' ')}": count for name, count in sorted(storm.struck.items())},
        "broken rules": _words(storm.findings),
        "keys left over": len(storm.leftovers),
        "seconds": round(storm.seconds),
    }
    return _table("Jobs through a lossy network", ("what", "how many"), [[k, str(v)] for k, v in facts.items()])


def failover_table(failover: Failover) -> Table:
    facts = {
        "acknowledged jobs": failover.acknowledged,
        "times that redis was set back": failover.set_back,
        "jobs brought back by the reconciler": failover.forgotten,
        "broken rules": _words(failover.findings),
    }
    return _table("Redis from an older copy", ("what", "how many"), [[k, str(v)] for k, v in facts.items()])


def _words(findings: Iterable[Finding]) -> str:
    return ", ".join(f"{rule} {count}" for rule, count in _broken(findings).items()) or "none"


def _broken(findings: Iterable[Finding]) -> Counter[str]:
    return Counter(finding.rule for finding in findings)


def _row(point: str, trials: Sequence[Trial]) -> Row:
    findings = [finding for trial in trials for finding in trial.findings]
    lost = sum(finding.rule in LOST for finding in findings)
    return Row(
        point=point,
        trials=len(trials),
        lost=lost,
        wrong=len(findings) - lost,
        resent=sum(trial.resent for trial in trials),
        leftovers=sum(len(trial.leftovers) for trial in trials),
        recoveries=tuple(sorted(trial.recovery for trial in trials)),
    )


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table
