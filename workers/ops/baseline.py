"""How fast and how well this deployment works: jobs of every type, measured, compared with an earlier time."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from workers.cli.queues import QueueView, views
from workers.delivery.report import Report
from workers.job import Preset
from workers.kinds import open_storage
from workers.local.supabase.payloads import Request, july
from workers.ops.actions import cancel
from workers.ops.status import stamp
from workers.ops.table import Figures, as_json, table
from workers.settings import Settings
from workers.supabase.storage import SupabaseStorage
from workers.supervision.ledger import Entry, entry_of

VERSION = 1
NOBODY = "00000000-0000-4000-8000-000000000000"
POLL = 1.0
SLOWER = 1.10
NOTICED = 0.05
"""Seconds by which a median must be worse, beside the tenth: less than that is noise."""

LETTING_GO = 60.0
"""Seconds that workers may take to hear of a withdrawal, which they do with their beats."""

LATE = "did not end in time"
PROMPTS = (
    "a red bicycle leaning on a white wall, morning light",
    "a lighthouse at dusk, waves rolling in",
    "two green apples on a wooden table",
    "a paper boat on a pond, ripples moving outwards",
)
COMPARED = ("work", "enhance", "generation", "marks", "encode", "upload")


@dataclass(frozen=True, slots=True)
class Baseline:
    """`figures` by job type, and what is wrong with them: promises not kept, and what became worse since `against`."""

    at: str
    host: str
    jobs: int
    figures: tuple[Figures, ...]
    misses: tuple[str, ...] = ()
    regressions: tuple[str, ...] = ()
    against: str | None = None

    @property
    def good(self) -> bool:
        return not (self.misses or self.regressions)

    def as_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "at": self.at,
            "host": self.host,
            "jobs": self.jobs,
            "figures": as_json(self.figures),
            "misses": list(self.misses),
            "regressions": list(self.regressions),
            "against": self.against,
        }


def measure(
    settings: Settings,
    presets: Mapping[str, Preset],
    *,
    jobs: int,
    limit: float,
    tell: Callable[[str], None] = lambda _sentence: None,
) -> list[Entry]:
    """One job of each type at a time, `jobs` rounds of it. Raises `Unreachable`.

    The jobs have no rows in the database, so their callbacks are not waited for: what they came to is read from the
    queue, and they are withdrawn then, with all that is left of them. `limit` in seconds is for one round.
    """
    entries: list[Entry] = []
    pushed: list[Request] = []
    with views(settings) as opened, ExitStack() as closing:
        storage = open_storage(settings)
        closing.callback(storage.close)
        by_kind = {view.kind: view for view in opened}
        for number in range(jobs):
            requests = [_request(preset, number) for preset in presets.values()]
            pushed += requests
            for request in requests:
                by_kind[request.preset.kind].queue.push(july(request))
            ended = _await(by_kind, requests, limit, done=partial(cancel, settings))
            tell(f"round {number + 1} of {jobs}: {sum(e.status == 'completed' for e in ended)} of {len(ended)} arrived")
            entries += ended
        _forget(by_kind, storage, pushed)
    return entries


def judged(
    entries: Sequence[Entry],
    presets: Mapping[str, Preset],
    *,
    jobs: int,
    host: str,
    ceiling: int = 0,
    earlier: Mapping[str, Any] | None = None,
) -> Baseline:
    """What the entries come to. `earlier` is the JSON of another baseline, `ceiling` in bytes of the card."""
    figures = tuple(table(presets, entries, ceiling))
    return Baseline(
        at=stamp(time.time()),
        host=host,
        jobs=jobs,
        figures=figures,
        misses=tuple(f"{row.type}: {miss}" for row in figures for miss in row.misses),
        regressions=tuple(_regressions(figures, earlier)) if earlier else (),
        against=str(earlier.get("at")) if earlier else None,
    )


def _request(preset: Preset, number: int) -> Request:
    """The same seeds and prompts each time."""
    config = {"seed": number, "num_images": preset.outputs[-1]}
    return Request(str(uuid.uuid4()), NOBODY, preset, PROMPTS[number % len(PROMPTS)], config=config)


def _await(
    by_kind: Mapping[str, QueueView], requests: Sequence[Request], limit: float, *, done: Callable[[str], object]
) -> list[Entry]:
    """How each job ended; `done` is told of it at once, or when nobody waits for it any more."""
    open_jobs, ended = {request.job_id: request for request in requests}, {}
    until = time.monotonic() + limit
    while open_jobs and time.monotonic() < until:
        time.sleep(POLL)
        for job_id, request in list(open_jobs.items()):
            found = by_kind[request.preset.kind].remembered(job_id)
            if found is not None:
                ended[job_id] = entry_of(Report.from_record(found.record).outcome, 1)
                del open_jobs[job_id]
                done(job_id)
    for job_id in open_jobs:
        done(job_id)
    return [ended.get(request.job_id) or _late(request) for request in requests]


def _forget(by_kind: Mapping[str, QueueView], storage: SupabaseStorage, requests: Sequence[Request]) -> None:
    """Take everything of these jobs away, once no worker has any of them in hand and could leave more."""
    until = time.monotonic() + LETTING_GO
    while any(by_kind[each.preset.kind].is_held(each.job_id) for each in requests) and time.monotonic() < until:
        time.sleep(POLL)
    for view in by_kind.values():
        view.forget_user(NOBODY, [each.job_id for each in requests if each.preset.kind == view.kind])
    for each in requests:
        storage.clear(each.preset.type, each.user_id, each.job_id)


def _late(request: Request) -> Entry:
    return Entry(request.job_id, request.preset.type, "failed", time.time(), 1, reason=LATE)


def _regressions(figures: Iterable[Figures], earlier: Mapping[str, Any]) -> list[str]:
    before = {row["type"]: row for row in earlier.get("figures", ())}
    found = []
    for row in figures:
        then = before.get(row.type)
        if then is not None:
            found += [f"{row.type}: {worse}" for worse in _worse(row, then)]
    return found


def _worse(now: Figures, then: Mapping[str, Any]) -> list[str]:
    found = []
    for name in COMPARED:
        new, old = getattr(now, name), then.get(name)
        if new is not None and old is not None and new > old * SLOWER and new - old > NOTICED:
            found.append(f"{name} takes {new:.2f} s, {old:.2f} s before")
    if now.card_peak and then.get("card_peak") and now.card_peak > then["card_peak"] * SLOWER:
        found.append(f"{now.card_peak / 2**30:.1f} GiB of the card, {then['card_peak'] / 2**30:.1f} before")
    if now.success is not None and then.get("success") is not None and now.success < then["success"]:
        found.append(f"{now.success:.0%} completed, {then['success']:.0%} before")
    return found
