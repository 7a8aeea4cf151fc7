"""A job that its user cancelled: of what is there already, nothing stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from workers import fence
from workers.delivery.packing import Call
from workers.delivery.parcel import Errand, Way
from workers.errors import Cancelled, Unreachable
from workers.logs import log
from workers.payload import find_user
from workers.watch import Watch

PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds between the tries to reach storage."""


async def withdraw(way: Way, call: Call, errand: Errand) -> None:
    """Objects, files and the claim. Raises `ClaimLost`, or `Unreachable` of the queue."""
    claim, job_id, user_id = errand.claim, errand.job_id, find_user(errand.claim.body)
    way.leases.hold(claim, job_id, Watch())
    if errand.job_type and user_id:
        clear = partial(way.storage.clear, errand.job_type, user_id, job_id)
        await _insist(call, partial(_fenced, partial(way.leases.confirm, claim.token), clear), job_id)
    way.outbox.remove(job_id)
    await call("queue", way.queue.ack, claim.token, job_id)


async def sweep(way: Way, call: Call, job_id: str) -> None:
    """What lies in the outbox of a job that nobody will claim any more, and what of it is in storage."""
    sealed = way.outbox.find(job_id)
    if sealed is not None:
        await _insist(call, partial(way.storage.clear, sealed.type, sealed.user_id, job_id), job_id)
        way.outbox.remove(job_id)


async def _insist(call: Call, clear: Callable[[], None], job_id: str) -> None:
    for pause in PAUSES:
        try:
            await call("upload", clear)
            break
        except Unreachable as error:
            log.warning("unreachable", what="upload", reason=str(error), wait=pause)
            await asyncio.sleep(pause)
    else:
        log.error("objects left", job=job_id)


def _fenced(confirm: Callable[..., None], clear: Callable[[], None]) -> None:
    """A withdrawn claim is ours until its end: only one that was lost keeps us from clearing."""

    def still_ours(*, ask: bool = True) -> None:
        with suppress(Cancelled):
            confirm(ask=ask)

    still_ours()
    with fence.before_bytes_leave(partial(still_ours, ask=False)):
        clear()
