"""How many jobs are where, and what the workers of this machine do."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from workers.cli.screen import AsJson, emit, out

if TYPE_CHECKING:
    from rich.table import Table

    from workers.cli.queues import Counts
    from workers.supervision.heartbeat import Heartbeat


def status(as_json: AsJson = False) -> None:
    """Show both queues, the workers that run on this machine with the queue commands they sent today, and how long
    jobs take here."""
    from workers.cli.queues import views
    from workers.settings import load_settings

    with views(load_settings()) as opened:
        counts = {view.name: view.counts() for view in opened}
    beats, usual = _heartbeats(), _usual()
    if as_json:
        queues = {name: asdict(count) for name, count in counts.items()}
        workers = [_facts(name, beat) for name, beat in beats.items()]
        emit({"queues": queues, "workers": workers, "estimates": usual})
    else:
        screen = out()
        screen.print(_queue_table(counts))
        screen.print(_worker_table(beats) if beats else "No worker has left a sign of life on this machine.")
        if usual:
            screen.print(_usual_table(usual))


def _heartbeats() -> dict[str, Heartbeat]:
    """Worker -> its last sign of life, of those whose process is still there."""
    from workers.supervision import heartbeat

    found = {path.stem: heartbeat.read(path) for path in sorted(heartbeat.run_dir().glob("*.heartbeat"))}
    return {name: beat for name, beat in found.items() if beat and _is_there(beat.pid)}


def _usual() -> dict[str, dict[str, float]]:
    """Job type -> phase -> seconds, as its last jobs on this machine took."""
    from workers import estimates
    from workers.supervision import heartbeat

    return estimates.Estimates(heartbeat.run_dir() / estimates.FILE).all()


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _facts(name: str, beat: Heartbeat) -> dict[str, object]:
    return {"worker": name, **asdict(beat), "percent": beat.percent, "age": round(beat.age(), 1)}


def _queue_table(counts: dict[str, Counts]) -> Table:
    from rich.table import Table

    table = Table("queue", "waiting", "retry", "in flight", "parked", "dead", "", box=None)
    for name, count in counts.items():
        *numbers, paused = asdict(count).values()
        table.add_row(name, *map(str, numbers), "paused" if paused else "")
    return table


def _worker_table(beats: dict[str, Heartbeat]) -> Table:
    from rich.table import Table

    columns = ("worker", "pid", "phase", "job type", "progress", "left", "done", "failed", "commands", "last sign")
    table = Table(*columns, box=None)
    for name, beat in beats.items():
        progress = "" if beat.percent is None else f"{beat.percent} %"
        left = "" if beat.left is None else f"{beat.left:.0f} s"
        facts = (beat.pid, beat.phase, beat.type or "", progress, left, beat.done, beat.failed, beat.commands)
        table.add_row(name, *map(str, facts), f"{beat.age():.0f} s ago")
    return table


def _usual_table(usual: dict[str, dict[str, float]]) -> Table:
    from rich.table import Table

    table = Table("job type", "usually takes", box=None)
    for name, phases in usual.items():
        table.add_row(name, f"{sum(phases.values()):.1f} s")
    return table
