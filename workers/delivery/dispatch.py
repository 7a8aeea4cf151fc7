"""The delivery thread: which jobs are on their way out, whether there is room for more, and how each way ends."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from workers.claim import Claim
from workers.delivery.courier import Courier
from workers.delivery.outbox import Sealed, volume_fault
from workers.delivery.parcel import Errand, Parcel, Way
from workers.delivery.report import Report
from workers.errors import Cancelled, ClaimLost, Rejected, Unreachable, Unrecorded
from workers.lease import THREAD_DIED
from workers.logs import describe, log
from workers.watch import Watch

DEPTH = 12
IN_MEMORY = 2
RELEASE_SECONDS = 3.0
Steps = Coroutine[Any, Any, None]


class Dispatch:
    """Jobs on their way out. The main thread hands them over and goes on; `on_room` is called when one ends."""

    def __init__(self, way: Way, on_room: Callable[[], None] = lambda: None) -> None:
        self._leases = way.leases
        self._on_room = on_room
        self._courier = Courier(way)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._under_way: set[str] = set()
        self._unpacked: set[str] = set()
        self._unsent: set[str] = set()
        self.delivered = 0
        self.failed = 0

    def start(self) -> None:
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether another job may be claimed: bounded frames in memory, bounded jobs with objects to upload."""
        return len(self._unpacked) < IN_MEMORY and len(self._unsent) < DEPTH

    @property
    def idle(self) -> bool:
        return not self._under_way

    def announce(self, claim: Claim, job_id: str, metadata: Mapping[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._courier.announce, claim, job_id, metadata)

    def deliver(self, parcel: Parcel, watch: Watch) -> None:
        """Take a made job; its watch goes on counting here."""
        token = parcel.claim.token
        self._unpacked.add(token)
        self._unsent.add(token)
        errand = Errand(parcel.claim, parcel.job_id, parcel.params.type, watch)
        self._set_out(errand, self._deliver(parcel, watch))

    def resume(self, claim: Claim, sealed: Sealed, watch: Watch) -> None:
        """Take a job whose files an earlier claim left in the outbox."""
        self._unsent.add(claim.token)
        self._set_out(Errand(claim, sealed.job_id, sealed.type, watch), self._ship(claim, sealed, watch))

    def report(self, claim: Claim, report: Report, watch: Watch) -> None:
        """Take a job of which only the terminal status is left to say."""
        errand = Errand(claim, report.outcome.job_id, report.outcome.type, watch)
        self._set_out(errand, self._report(claim, report, watch))

    def withdraw(self, claim: Claim, job_id: str, job_type: str, watch: Watch) -> None:
        """Take a job that its user cancelled after an earlier claim may have left something of it."""
        errand = Errand(claim, job_id, job_type, watch)
        self._set_out(errand, self._courier.withdraw(errand))

    def sweep(self, job_id: str) -> None:
        """Of a job that was cancelled while it waited, nothing stays that an earlier claim left on this volume."""
        asyncio.run_coroutine_threadsafe(self._courier.sweep(job_id), self._loop)

    def close(self) -> None:
        """Release what is still on its way to the head of the queue, uncounted, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(RELEASE_SECONDS + 1.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1.0)
        self._courier.close()
        if not self._thread.is_alive():
            self._loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=RELEASE_SECONDS)

    async def _deliver(self, parcel: Parcel, watch: Watch) -> None:
        sealed = await self._courier.pack(parcel, watch)
        self._free(self._unpacked, parcel.claim.token)
        await self._ship(parcel.claim, sealed, watch)

    async def _ship(self, claim: Claim, sealed: Sealed, watch: Watch) -> None:
        report = await self._courier.upload(claim, sealed, watch)
        self._free(self._unsent, claim.token)
        await self._report(claim, report, watch)

    async def _report(self, claim: Claim, report: Report, watch: Watch) -> None:
        await self._courier.report(claim, report, watch)
        self.delivered += report.outcome.status == "completed" and not report.accepted
        self.failed += report.outcome.status == "failed"

    def _set_out(self, errand: Errand, steps: Steps) -> None:
        self._leases.hold(errand.claim, errand.job_id, errand.watch)
        self._under_way.add(errand.claim.token)
        asyncio.run_coroutine_threadsafe(self._to_its_end(errand, steps), self._loop)

    async def _to_its_end(self, errand: Errand, steps: Steps) -> None:
        token = errand.claim.token
        try:
            await self._with_endings(errand, steps)
        except Unreachable as error:
            log.warning("claim left to its lease", job=errand.job_id, reason=str(error))
        finally:
            self._leases.let_go(token)
            self._under_way.discard(token)
            self._free(self._unpacked, token)
            self._free(self._unsent, token)

    async def _with_endings(self, errand: Errand, steps: Steps) -> None:
        """Every way a delivery can end has its own way home."""
        claim, job_id, report = errand.claim, errand.job_id, None
        try:
            await steps
        except ClaimLost:
            log.warning("claim lost", job=job_id, phase="delivery")
        except Cancelled:
            log.info("cancelled", job=job_id, type=errand.job_type, phase="delivery")
            await self._courier.withdraw(errand)
        except Rejected as error:
            bury = str(error) if error.code == "failed" else None
            if error.code == "policy":
                log.warning("rejected", job=job_id, type=errand.job_type, reason=error.sentence)
            report = Report.of_failure(job_id, error, errand.job_type, bury)
        except Unrecorded:
            await self._courier.retry(claim, counted=False)
        except asyncio.CancelledError:
            await self._courier.release(claim)
            log.info("released", job=job_id, phase="delivery")
        except Exception as error:
            fault = volume_fault(error)
            log.error("volume failed" if fault else "delivery failed", job=job_id, reason=fault, **describe(error))
            await self._courier.retry(claim, counted=fault is None)
        if report is not None:  # not before the error is gone, and with it the pixels that its trace holds on to
            await self._report(claim, report, errand.watch)

    def _free(self, slots: set[str], token: str) -> None:
        slots.discard(token)
        self._on_room()

    def _run(self) -> None:
        """The delivery thread's whole life. Without it nothing ends, so its death is the process's."""
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        except BaseException as error:
            log.error("delivery thread died", **describe(error))
            os._exit(THREAD_DIED)
