"""From pixels to an accepted callback, beside the generation: encode, outbox, upload, report, acknowledge.

One thread runs an event loop; each job on its way out is one coroutine that reads in order. Blocking calls go to
small pools: encoding, objects (16, across jobs), callbacks, and one thread for the queue's own client. Every step
can be repeated without harm, and who lost the claim stops at the next fence.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from workers import crash, fence
from workers.account import tell
from workers.claim import Claim
from workers.delivery.outbox import Sealed
from workers.delivery.packing import pack
from workers.delivery.parcel import Errand, Parcel, Way
from workers.delivery.report import Report, spoken_by
from workers.delivery.verdict import PARK_ABOVE, REPEAT_COMPLETED_AFTER, Verdict, jittered, next_delay
from workers.delivery.withdrawal import sweep, withdraw
from workers.errors import Cancelled, ClaimLost, Rejected, Unreachable
from workers.job import Artifact, Delivery, Outcome
from workers.logs import log
from workers.payload import find_user
from workers.watch import Watch, rounded

UPLOADS = 16
ENCODERS = max(2, min(6, (os.cpu_count() or 2) // 2))
"""Pictures encoded at once: the six of the largest job, where half of the cores are as many."""
SIGNERS = 4
RETRY_AFTER = 60.0
BACK_OFF = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
SLICE = 5.0
T = TypeVar("T")


class Courier:
    """Brings one job at a time through the steps; every method is a coroutine of the delivery loop."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._announcing: dict[str, asyncio.Future[None]] = {}
        self._pools = {
            "encode": ThreadPoolExecutor(ENCODERS, "encode"),
            "sign": ThreadPoolExecutor(SIGNERS, "sign"),
            "upload": ThreadPoolExecutor(UPLOADS, "upload"),
            "callback": ThreadPoolExecutor(4, "callback"),
            "queue": ThreadPoolExecutor(1, "queue"),
        }

    async def pack(self, parcel: Parcel, watch: Watch) -> Sealed:
        return await pack(self._way, self._call, partial(self._insist, watch), parcel, watch)

    async def upload(self, claim: Claim, sealed: Sealed, watch: Watch) -> Report:
        """Every object, in parallel, then the report of success. A refused object makes it one of failure."""
        crash.point("sealed")
        with watch.phase("upload"):
            await self._confirm(claim, watch)
            results = await asyncio.gather(
                *(self._put(claim, artifact, sealed, watch) for artifact in sealed.artifacts), return_exceptions=True
            )
        deliveries = tuple(r for r in results if isinstance(r, Delivery))
        errors = [r for r in results if isinstance(r, BaseException)]
        if errors and isinstance(errors[0], Rejected):
            delete = partial(self._way.storage.delete, deliveries)
            await self._insist(watch, "upload", self._fenced(claim, delete))
        if errors:
            raise errors[0]
        crash.point("uploaded")
        timings = sealed.metadata.get("timings", {}) | rounded(watch.timings) | {"callback": 0.0}
        outcome = Outcome(
            job_id=sealed.job_id,
            type=sealed.type,
            status="completed",
            deliveries=deliveries,
            enhanced_prompt=sealed.enhanced_prompt,
            metadata={**sealed.metadata, "timings": timings},
        )
        return Report(outcome, sealed.user_id)

    def announce(self, claim: Claim, job_id: str, metadata: Mapping[str, Any]) -> None:
        """Say `processing`, once, waited for only before the terminal status."""
        self._announcing[job_id] = asyncio.ensure_future(self._announce(claim, job_id, metadata))

    async def report(self, claim: Claim, report: Report, watch: Watch) -> None:
        """Send the terminal status until it is accepted. A long wait is parked in the queue, not here."""
        await self._announced(report.outcome.job_id)
        await self._clear(claim, report, watch)
        send = partial(self._way.callbacks.send, spoken_by(claim, report.outcome), report.user_id)
        while True:
            await self._remember(claim, report, watch)
            crash.point("remembered")
            with watch.phase("callback"):
                verdict = await self._insist(watch, "callback", self._fenced(claim, send))
            crash.point("callback-unheard")
            if verdict.accepted:
                return await self._accepted(claim, report, watch)
            report = replace(report, failures=report.failures + 1)
            delay = next_delay(report.failures, verdict)
            self._log_failure(report, verdict, delay)
            if delay is None:
                reason = f"callback {verdict.meaning}: {verdict.reason}"
                return await self._end(claim, replace(report, bury=report.bury or reason), watch)
            if delay > PARK_ABOVE:
                await self._remember(claim, report, watch)
                return await self._park(claim, delay, watch)
            await _pause(watch, delay)

    async def release(self, claim: Claim) -> None:
        await self._call("queue", lambda: self._way.queue.release(claim.token, counted=False))
        crash.point("released")

    async def retry(self, claim: Claim, *, counted: bool) -> None:
        await self._call("queue", lambda: self._way.queue.park(claim.token, jittered(RETRY_AFTER), counted=counted))

    async def withdraw(self, errand: Errand) -> None:
        await withdraw(self._way, self._call, errand)

    async def sweep(self, job_id: str) -> None:
        await sweep(self._way, self._call, job_id)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    async def _accepted(self, claim: Claim, report: Report, watch: Watch) -> None:
        outcome = report.outcome
        tell(claim, report, watch, self._way.note)
        crash.point("accepted")
        adopt = partial(self._way.callbacks.adopt_image, outcome)
        await self._insist(watch, "callback", self._fenced(claim, adopt))
        crash.point("adopted")
        if self._way.callbacks.repeats and len(outcome.deliveries) > 1 and not report.accepted:
            await self._remember(claim, replace(report, accepted=True, failures=0), watch)
            crash.point("noted")
            await self._park(claim, REPEAT_COMPLETED_AFTER, watch)
            self._way.outbox.remove(outcome.job_id)
        else:
            await self._end(claim, report, watch)

    async def _end(self, claim: Claim, report: Report, watch: Watch) -> None:
        queue, job_id = self._way.queue, report.outcome.job_id
        if report.kept:
            await self._insist(watch, "queue", queue.bury, claim.token, report.kept, job_id)
            log.warning("buried", job=job_id, type=report.outcome.type, reason=report.kept)
        else:
            await self._insist(watch, "queue", queue.ack, claim.token, job_id)
        crash.point("ack-unheard")
        self._way.outbox.remove(job_id)
        crash.point("delivered")

    async def _put(self, claim: Claim, artifact: Artifact, sealed: Sealed, watch: Watch) -> Delivery:
        put = partial(self._way.storage.put, artifact, sealed.type, sealed.user_id, sealed.job_id)
        delivery = await self._insist(watch, "upload", self._fenced(claim, put))
        crash.point("between-uploads")
        watch.step(watch.done + 1, len(sealed.artifacts))
        return delivery

    async def _clear(self, claim: Claim, report: Report, watch: Watch) -> None:
        """A job that failed leaves no object behind, also not from an earlier attempt."""
        outcome, user_id = report.outcome, find_user(claim.body)
        if outcome.status == "failed" and outcome.type and user_id and claim.attempt > 1:
            clear = partial(self._way.storage.clear, outcome.type, user_id, outcome.job_id)
            await self._insist(watch, "upload", self._fenced(claim, clear))

    def _fenced(self, claim: Claim, effect: Callable[[], T]) -> Callable[[], T]:
        """The fence and then the effect, in one thread without a wait between them."""

        confirm = partial(self._way.leases.confirm, claim.token)

        def fence_then_effect() -> T:
            confirm()
            with fence.before_bytes_leave(partial(confirm, ask=False)):
                return effect()

        return fence_then_effect

    async def _confirm(self, claim: Claim, watch: Watch) -> None:
        await self._insist(watch, "queue", self._way.leases.confirm, claim.token)

    async def _remember(self, claim: Claim, report: Report, watch: Watch) -> None:
        facts = (report.outcome.job_id, report.record(), report.instead_of(claim.body))
        if not await self._insist(watch, "queue", self._way.queue.remember, claim.token, *facts):
            raise ClaimLost

    async def _park(self, claim: Claim, delay: float, watch: Watch) -> None:
        await self._insist(watch, "queue", lambda: self._way.queue.park(claim.token, delay, counted=False))
        crash.point("parked")

    async def _announce(self, claim: Claim, job_id: str, metadata: Mapping[str, Any]) -> None:
        """Heard or not: a late `processing` would open a job again that somebody else has ended."""
        announce = partial(self._way.callbacks.announce, job_id, metadata)
        with suppress(ClaimLost, Cancelled, Unreachable):
            await self._call("callback", self._fenced(claim, announce))
            crash.point("announced")

    async def _announced(self, job_id: str) -> None:
        """July has no guard against `processing` after the end, so the end waits for it."""
        if announcing := self._announcing.pop(job_id, None):
            await asyncio.wait([announcing])

    async def _insist(self, watch: Watch, pool: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call until it is answered. Ends early when the claim is lost or withdrawn."""
        for pause in itertools.chain(BACK_OFF, itertools.repeat(BACK_OFF[-1])):
            watch.raise_if_aborted()
            try:
                return await self._call(pool, function, *arguments)
            except Unreachable as error:
                log.warning("unreachable", what=pool, reason=str(error), wait=pause, denied=error.denied or None)
                await _pause(watch, max(pause, error.retry_after or 0.0))
        raise AssertionError("the back-off never ends")

    async def _call(self, pool: str, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pools[pool], function, *arguments)

    def _log_failure(self, report: Report, verdict: Verdict, delay: float | None) -> None:
        say = log.error if delay is None or verdict.alarm else log.warning
        answer = {"answer": verdict.meaning, "reason": verdict.reason}
        say("callback failed", job=report.outcome.job_id, failures=report.failures, wait=delay, **answer)


async def _pause(watch: Watch, seconds: float) -> None:
    """Sleep, however long, without looking hung. Raises what the watch is told meanwhile."""
    left = seconds
    while left > 0:
        watch.step(watch.done, watch.total)
        await asyncio.sleep(min(left, SLICE))
        left -= SLICE
