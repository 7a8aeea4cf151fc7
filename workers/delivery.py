"""From pixels to an accepted callback, beside the generation: encode, outbox, upload, report, acknowledge.

One thread runs an event loop; each job on its way out is one coroutine that reads in order. Blocking calls go to
small pools: encoding, objects (16, across jobs), callbacks, and one thread for the queue's own client. Every step
can be repeated without harm, and who lost the claim stops at the next fence.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from workers.claim import Claim
from workers.errors import ClaimLost, Rejected, Unreachable
from workers.job import Artifact, Delivery, Outcome, Output, SamplingParams
from workers.lease import Leases
from workers.logs import log
from workers.outbox import Outbox, Sealed
from workers.report import Report
from workers.verdict import PARK_ABOVE, REPEAT_COMPLETED_AFTER, Verdict, next_delay
from workers.watch import Watch

UPLOADS = 16
RETRY_AFTER = 60.0
BACK_OFF = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
T = TypeVar("T")


class Queue(Protocol):
    def remember(self, token: str, job_id: str, result: Mapping[str, Any]) -> bool: ...
    def release(self, token: str, *, counted: bool) -> bool: ...
    def park(self, token: str, delay: float, *, counted: bool) -> bool: ...
    def ack(self, token: str, job_id: str | None) -> bool: ...
    def bury(self, token: str, reason: str, job_id: str | None = None) -> bool: ...


class Storage(Protocol):
    """`put` raises `Unreachable` to be tried again, `Rejected` when the object is refused for good."""

    def put(self, artifact: Artifact, job_type: str, user_id: str, job_id: str) -> Delivery: ...
    def delete(self, deliveries: tuple[Delivery, ...]) -> None: ...


class Callbacks(Protocol):
    """Whatever happens to a callback is in its verdict; nothing is raised. `repeats` is true where the receiver
    may miss rows that are linked late."""

    @property
    def repeats(self) -> bool: ...
    def send(self, outcome: Outcome, user_id: str) -> Verdict: ...
    def announce(self, job_id: str) -> None: ...
    def adopt_image(self, outcome: Outcome) -> None: ...


Encode = Callable[[Output, Path, SamplingParams, int], Artifact]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A made job: pixels in host memory, and what its callback will say. `limit` is the bucket's, in bytes."""

    claim: Claim
    job_id: str
    user_id: str
    params: SamplingParams
    outputs: tuple[Output, ...]
    limit: int
    enhanced_prompt: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """Where deliveries go and what encodes them: the doors of this process to the outside."""

    outbox: Outbox
    queue: Queue
    storage: Storage
    callbacks: Callbacks
    leases: Leases
    encode: Encode


@dataclass(frozen=True, slots=True)
class Errand:
    """One job on its way out: whose claim it is, and the watch that its steps move."""

    claim: Claim
    job_id: str
    job_type: str
    watch: Watch


class Courier:
    """Brings one job at a time through the steps; every method is a coroutine of the delivery loop."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._announcing: dict[str, asyncio.Future[None]] = {}
        self._pools = {
            "encode": ThreadPoolExecutor(2, "encode"),
            "upload": ThreadPoolExecutor(UPLOADS, "upload"),
            "callback": ThreadPoolExecutor(4, "callback"),
            "queue": ThreadPoolExecutor(1, "queue"),
        }

    async def pack(self, parcel: Parcel, watch: Watch) -> Sealed:
        """Pixels -> files -> the outbox. Nothing outside has happened yet."""
        outbox, params = self._way.outbox, parcel.params
        folder = outbox.stage(parcel.claim.token)
        try:
            with watch.phase("encode"):
                artifacts = await asyncio.gather(
                    *(self._call("encode", self._way.encode, o, folder, params, parcel.limit) for o in parcel.outputs)
                )
        except BaseException:
            outbox.discard(folder)
            raise
        metadata = {**parcel.metadata, "timings": {"load": 0.0, **rounded(watch.timings)}}
        ids = (folder, parcel.job_id, params.type, parcel.user_id)
        sealed = Sealed(*ids, tuple(artifacts), parcel.enhanced_prompt, metadata)
        return await self._call("encode", outbox.seal, folder, sealed)

    async def upload(self, claim: Claim, sealed: Sealed, watch: Watch) -> Report:
        """Every object, in parallel, then the report of success. A refused object makes it one of failure."""
        with watch.phase("upload"):
            await self._confirm(claim, watch)
            results = await asyncio.gather(
                *(self._put(artifact, sealed, watch) for artifact in sealed.artifacts), return_exceptions=True
            )
        deliveries = tuple(r for r in results if isinstance(r, Delivery))
        errors = [r for r in results if isinstance(r, BaseException)]
        if errors and isinstance(errors[0], Rejected):
            await self._call("upload", self._way.storage.delete, deliveries)
        if errors:
            raise errors[0]
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

    def announce(self, job_id: str) -> None:
        """Say `processing`, once, waited for only before the terminal status."""
        self._announcing[job_id] = asyncio.ensure_future(self._call("callback", self._way.callbacks.announce, job_id))

    async def report(self, claim: Claim, report: Report, watch: Watch) -> None:
        """Send the terminal status until it is accepted. A long wait is parked in the queue, not here."""
        await self._announced(report.outcome.job_id)
        while True:
            await self._remember(claim, report, watch)
            await self._confirm(claim, watch)
            with watch.phase("callback"):
                verdict = await self._call("callback", self._way.callbacks.send, report.outcome, report.user_id)
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
            await asyncio.sleep(delay)

    async def release(self, claim: Claim) -> None:
        await self._call("queue", lambda: self._way.queue.release(claim.token, counted=False))

    async def retry(self, claim: Claim) -> None:
        await self._call("queue", lambda: self._way.queue.park(claim.token, RETRY_AFTER, counted=True))

    async def acknowledge(self, claim: Claim, job_id: str | None) -> None:
        await self._call("queue", self._way.queue.ack, claim.token, job_id)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    async def _accepted(self, claim: Claim, report: Report, watch: Watch) -> None:
        outcome = report.outcome
        said = {"job": outcome.job_id, "type": outcome.type, "status": outcome.status, "attempt": claim.attempt}
        log.info(
            "repeated" if report.accepted else "delivered",
            **said,
            assets=len(outcome.deliveries),
            **_spent(outcome, watch),
        )
        await self._call("callback", self._way.callbacks.adopt_image, outcome)
        if self._way.callbacks.repeats and len(outcome.deliveries) > 1 and not report.accepted:
            await self._remember(claim, replace(report, accepted=True, failures=0), watch)
            await self._park(claim, REPEAT_COMPLETED_AFTER, watch)
            self._way.outbox.remove(outcome.job_id)
        else:
            await self._end(claim, report, watch)

    async def _end(self, claim: Claim, report: Report, watch: Watch) -> None:
        queue, job_id = self._way.queue, report.outcome.job_id
        if report.bury:
            await self._insist(watch, "queue", queue.bury, claim.token, report.bury, job_id)
        else:
            await self._insist(watch, "queue", queue.ack, claim.token, job_id)
        self._way.outbox.remove(job_id)

    async def _put(self, artifact: Artifact, sealed: Sealed, watch: Watch) -> Delivery:
        storage = self._way.storage
        delivery = await self._insist(
            watch, "upload", storage.put, artifact, sealed.type, sealed.user_id, sealed.job_id
        )
        watch.step(watch.done + 1, len(sealed.artifacts))
        return delivery

    async def _confirm(self, claim: Claim, watch: Watch) -> None:
        await self._insist(watch, "queue", self._way.leases.confirm, claim.token)

    async def _remember(self, claim: Claim, report: Report, watch: Watch) -> None:
        job_id, record = report.outcome.job_id, report.record()
        if not await self._insist(watch, "queue", self._way.queue.remember, claim.token, job_id, record):
            raise ClaimLost

    async def _park(self, claim: Claim, delay: float, watch: Watch) -> None:
        await self._insist(watch, "queue", lambda: self._way.queue.park(claim.token, delay, counted=False))

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
                watch.step(watch.done, watch.total)
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
        raise AssertionError("the back-off never ends")

    async def _call(self, pool: str, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pools[pool], function, *arguments)

    def _log_failure(self, report: Report, verdict: Verdict, delay: float | None) -> None:
        say = log.error if delay is None or verdict.alarm else log.warning
        answer = {"answer": verdict.meaning, "reason": verdict.reason}
        say("callback failed", job=report.outcome.job_id, failures=report.failures, wait=delay, **answer)


def rounded(timings: Mapping[str, float]) -> dict[str, float]:
    return {phase: round(seconds, 3) for phase, seconds in timings.items()}


def _spent(outcome: Outcome, watch: Watch) -> dict[str, float]:
    timings = {**outcome.metadata.get("timings", {}), **watch.timings}
    return {f"{phase}_s": round(seconds, 2) for phase, seconds in timings.items()}
