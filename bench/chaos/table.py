"""What trials came to, as a table for people and as the one bit that scripts want."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.chaos.crashes import Trial
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

    def quantile(self, share: float) -> float:
        return self.recoveries[min(len(self.recoveries) - 1, int(share * len(self.recoveries)))]

    def cells(self) -> list[str]:
        counts = (self.trials, self.lost, self.wrong, self.resent, self.leftovers)
        return [self.point, *map(str, counts), f"{self.quantile(0.5):.2f}", f"{self.quantile(0.99):.2f}"]


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
    """One row for each rule that was broken, or one that says that none was."""
    broken = _broken(finding for freeze in freezes for finding in freeze.findings)
    rows = [[rule, str(count)] for rule, count in broken.items()] or [["none", "0"]]
    return _table(f"Workers frozen past their lease, {len(freezes)} trials", ("broken rule", "times"), rows)


def storm_table(storm: Storm) -> Table:
    facts = {
        "acknowledged jobs": storm.acknowledged,
        "enqueues refused by the weather": storm.refused,
        "completed": storm.completed,
        "given up with a word to the user": storm.failed,
        "callbacks accepted again": storm.resent,
        **{f"blow: {name.replace('_', ' ')}": count for name, count in sorted(storm.blows.items())},
        **{f"fault: {name.replace('_', ' ')}": count for name, count in sorted(storm.struck.items())},
        "broken rules": ", ".join(f"{rule} {count}" for rule, count in _broken(storm.findings).items()) or "none",
        "keys left over": len(storm.leftovers),
        "seconds": round(storm.seconds),
    }
    return _table("Jobs through a lossy network", ("what", "how many"), [[k, str(v)] for k, v in facts.items()])


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
