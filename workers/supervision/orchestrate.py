"""The supervisor's process: the workers it keeps, what it knows of their queues, and who brings lost jobs back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from workers.boot import complain, prepare
from workers.errors import Misconfigured
from workers.kinds import KINDS, open_queue, open_reconciler, queue_of
from workers.logs import log
from workers.ops.card import Card
from workers.ops.room import Room, count_here, open_room
from workers.queue.upstash import UpstashQueue
from workers.settings import Settings
from workers.supervision import heartbeat
from workers.supervision.environment import worker_environment
from workers.supervision.heartbeat import Heartbeat
from workers.supervision.keeper import Hooks
from workers.supervision.process import Slot
from workers.supervision.slot import Pace
from workers.supervision.supervisor import supervise
from workers.supervision.vacancy import Vacancy
from workers.tables import load_models
from workers.volume import models_of

ROOT = Path(__file__).resolve().parents[2]
HOOK_TIMEOUT = 2.0
RESIDENT = ("sdxl", "wan", "qwen")
"""The models that stay on the card; others visit it from host memory."""


def run_supervisor(only: str | None = None) -> int:
    """Both workers, or one of them, until asked to stop. Main thread only."""
    kinds = [only] if only else list(KINDS)
    run_dir = heartbeat.run_dir()
    count_here(run_dir, kinds)
    try:
        settings = prepare(kinds, "supervisor")
    except Misconfigured as error:
        return complain(error)
    env = worker_environment(len(kinds))
    slots = [Slot(kind, (sys.executable, str(ROOT / f"{kind}_worker.py")), env) for kind in kinds]
    if settings.reconciles:
        open_reconciler(kinds, settings).start()
    log.info("supervising", kinds=",".join(kinds), dialect=settings.callback_dialect, outbox=str(settings.outbox))
    room = open_room(settings, run_dir, _open_queues(kinds, settings))
    code = supervise(slots, hooks=_hooks(kinds, settings, room), pace=Pace(drain=settings.drain_seconds))
    room.close()
    return code


def _open_queues(kinds: Sequence[str], settings: Settings) -> dict[str, UpstashQueue]:
    return {kind: open_queue(kind, settings, timeout=HOOK_TIMEOUT) for kind in kinds}


def _hooks(kinds: Sequence[str], settings: Settings, room: Room) -> Hooks:
    """What the supervisor knows of the queues: their lengths as its workers saw them, at no cost, and how to end the
    leases of a worker that died."""
    queues = _open_queues(kinds, settings)

    def end_leases(kind: str, last: Heartbeat | None) -> None:
        room.died(kind)
        if last is not None and last.tokens:
            log.info("leases ended", kind=kind, claims=queues[kind].expire(last.tokens))

    def depths() -> dict[str, int]:
        seen = {kind: heartbeat.read(heartbeat.path_of(kind)) for kind in kinds}
        return {queue_of(kind): beat.waiting for kind, beat in seen.items() if beat and beat.waiting is not None}

    return Hooks(on_exit=end_leases, may_start=_vacancy(kinds, settings), depths=depths, show=room.show)


def _vacancy(kinds: Sequence[str], settings: Settings) -> Vacancy:
    found, card = models_of(settings, load_models()), Card()

    def room() -> tuple[int, int] | None:
        now = card.read()
        return None if now is None else (now.total - now.used, now.total)

    residents = [model for model in found if model.name in RESIDENT]
    return Vacancy({kind: sum(model.bytes for model in residents if model.kind == kind) for kind in kinds}, room)
