"""The loop of a worker: claim, make, hand over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from workers import crash, payload
from workers.claim import Claim
from workers.claiming import Claimer
from workers.delivery.dispatch import Dispatch
from workers.delivery.outbox import Outbox
from workers.endings import GAVE_UP, MAX_ATTEMPTS, Case, Endings, Queue
from workers.errors import Cancelled, ClaimLost, EngineBroken, Interrupted, Rejected, Unrecorded
from workers.job import WRITTEN, Job
from workers.lease import Leases
from workers.logs import log
from workers.making.maker import Maker, waited
from workers.making.writing import write
from workers.stop import Stop
from workers.supervision.wear import Wear
from workers.watch import Watch, spent

MAX_CRASHES = 2
MAX_DELIVERIES = 6
"""Attempts in all of a job whose files lie in the outbox: bringing them out costs no card."""

LOOK_AHEAD = 1.0
"""Seconds before the last step of a job at which the next one is claimed."""


class Turn(Protocol):
    """The card, shared with other processes: `held` while computing, `offer`ed between two steps."""

    def held(self, watch: Watch) -> AbstractContextManager[None]: ...
    def offer(self, watch: Watch) -> None: ...


@dataclass(frozen=True, slots=True)
class Workplace:
    """All that a worker works with, put together in `kinds.py`. Durations in seconds.

    `expected` says how long the phases of such jobs usually take, `measure` what the present job cost beside time.
    `settle` is called once, when everything is loaded.
    """

    maker: Maker
    claimer: Claimer
    queue: Queue
    leases: Leases
    dispatch: Dispatch
    outbox: Outbox
    stop: Stop
    turn: Turn
    poll: float
    grace: float
    step_limit: float
    wear: Wear = field(default_factory=Wear)
    expected: Callable[[str], Mapping[str, float]] = lambda _type: {}
    measure: Callable[[], Mapping[str, Any]] = dict
    settle: Callable[[], None] = lambda: None


class Worker:
    """The main thread of one process. `between` says what it does when it has no job: "start", "idle", "unready"."""

    def __init__(self, place: Workplace) -> None:
        self._at = place
        self._endings = Endings(place.queue, place.dispatch)
        place.claimer.on_withdrawn = place.dispatch.sweep
        self.watch = self._new_watch()
        self.job_id: str | None = None
        self.job_type: str | None = None
        self.between = "start"
        self._is_first_attempt = False

    def run(self) -> int:
        """Load, work, drain. Returns the exit code: 0, or why only a new process helps."""
        code = 0
        try:
            self._load()
            while not self._at.stop.requested and not self._at.wear.out(self._at.dispatch.delivered):
                self._turn()
        except EngineBroken as error:
            log.error("engine broken", reason=str(error), exit_code=error.exit_code)
            code = error.exit_code
        except Interrupted:
            log.info("interrupted", phase="load")
        self._drain()
        return code

    def _load(self) -> None:
        """Everything heavy happens before the first claim."""
        maker = self._at.maker
        for model in (maker.engine, maker.enhancer, maker.watermark):
            if model is not None:
                model.load(self.watch)
                crash.point("loading")
                with self._at.turn.held(self.watch):
                    model.warm_up(self.watch)
        self._at.settle()
        self._at.wear.begin()
        self.between = "idle"
        log.info("ready", kind=maker.kind, model=maker.engine.model_name, **spent(self.watch.timings))

    def _turn(self) -> None:
        self.watch, self.job_id, self.job_type = Watch(), None, None
        self._at.maker.tidy()
        problem = self._at.outbox.problem() or self._at.maker.gate.problem()
        self.between = "unready" if problem else "idle"
        if problem or not self._at.dispatch.has_room:
            self._at.claimer.give_back()
        if problem:
            self._at.claimer.back_off(problem, self._look_alive)
        elif not self._at.dispatch.has_room:
            self._at.stop.sleep(self._at.poll)
        elif claim := self._at.claimer.next(self._look_alive):
            self._serve(claim)
        elif self._at.maker.engine.unrehearsed and not self._at.stop.requested:
            self._rehearse()

    def _rehearse(self) -> None:
        """Nobody waits: what a job of an unusual shape had to do without is made ready for the next one."""
        self.watch = self._new_watch()
        with suppress(Interrupted), self._at.turn.held(self.watch):
            self._at.maker.engine.rehearse(self.watch)

    def _serve(self, claim: Claim) -> None:
        """Every way a job can end has its own way home; what the delivery thread did not take is let go."""
        self.job_id, self._is_first_attempt = payload.find_id(claim.body), claim.attempt == 1
        self.watch = self._new_watch()
        self._at.leases.hold(claim, self.job_id, self.watch)
        crash.point("claimed")
        handed_over = False
        try:
            handed_over = self._handle(claim, self.watch)
        except Rejected as error:
            handed_over = self._endings.reject(self._case(claim), error)
        except (Interrupted, Unrecorded):
            self._endings.release(self._case(claim), counted=False)
        except Cancelled:
            handed_over = self._endings.withdraw(self._case(claim))
        except ClaimLost:
            log.warning("claim lost", job=self.job_id, phase=self.watch.current)
        except EngineBroken:
            self._endings.release(self._case(claim), counted=True)
            raise
        except Exception as error:
            handed_over = self._endings.retry(self._case(claim), error, self.watch.current)
        finally:
            if not handed_over:
                self._at.leases.let_go(claim.token)

    def _case(self, claim: Claim) -> Case:
        return Case(claim, self.job_id, self.job_type)

    def _handle(self, claim: Claim, watch: Watch) -> bool:
        """The life of one job. Whether the delivery thread has it at its end."""
        if claim.result is not None:
            return self._endings.repeat(self._case(claim), claim.result)
        job = payload.parse(claim.body)
        crash.point("parsed")
        self.job_id = job.id
        self.job_type = job.type if job.type in self._at.maker.presets else None
        sealed = self._at.outbox.find(job.id)
        if sealed is not None and claim.attempt <= MAX_DELIVERIES:
            crash.point("resumed")
            log.info("resumed", job=job.id, type=job.type, attempt=claim.attempt)
            self._at.dispatch.resume(claim, sealed, Watch())
            return True
        if claim.crashes >= MAX_CRASHES or claim.attempt > MAX_ATTEMPTS:
            raise Rejected(GAVE_UP, code="failed")
        if job.type in WRITTEN:
            self._write(claim, job, watch)
            return True
        preset = self._at.maker.preset(job)
        self._at.maker.admit(job, preset)
        watch.timings["wait"], watch.expected = waited(job), self._at.expected(job.type)
        log.info("claimed", job=job.id, type=job.type, attempt=claim.attempt, wait_s=watch.timings["wait"])
        if claim.attempt == 1:
            self._at.dispatch.announce(claim, job.id, self._forecast(watch))
        pictures = self._at.maker.gather(job, preset, watch, last=claim.attempt >= MAX_ATTEMPTS)
        with self._at.turn.held(watch):
            parcel = self._at.maker.make(claim, job, preset, watch, pictures)
        cost = self._at.measure()
        parcel = replace(parcel, metadata={**parcel.metadata, **cost})
        crash.point("made")
        log.info("made", job=job.id, type=job.type, **cost, **spent(watch.timings))
        self._at.dispatch.deliver(parcel, watch.successor())
        return True

    def _forecast(self, watch: Watch) -> dict[str, float]:
        """What the user may be told at the start; nothing before such jobs were seen."""
        return {} if watch.left is None else {"estimated_seconds": round(watch.left, 1)}

    def _write(self, claim: Claim, job: Job, watch: Watch) -> None:
        """A job whose only output is a text ends here: its report carries it."""
        watch.timings["wait"] = waited(job)
        log.info("claimed", job=job.id, type=job.type, attempt=claim.attempt, wait_s=watch.timings["wait"])
        with self._at.turn.held(watch):
            report = write(self._at.maker, claim, job, watch)
        log.info("made", job=job.id, type=job.type, **spent(watch.timings))
        self._at.dispatch.report(claim, report, Watch())

    def _look_alive(self) -> None:
        self.watch = Watch()

    def _new_watch(self) -> Watch:
        return Watch(step_limit=self._at.step_limit, on_step=self._between_steps)

    def _between_steps(self, watch: Watch) -> None:
        if self.job_id is not None:  # loading and warming up have steps too
            crash.point("generating")
        self._heed_stop(watch)
        if not watch.aborted:
            self._look_ahead(watch)
            self._at.turn.offer(watch)

    def _look_ahead(self, watch: Watch) -> None:
        """The next claim is to be here when the card is free. Not beside a job that ended a worker before: such a death
        counts as a crash of every job that is claimed."""
        soon = watch.current == "denoise" and watch.remaining < LOOK_AHEAD
        if soon and self._is_first_attempt and not self._at.stop.requested and self._at.dispatch.has_room:
            self._at.claimer.look_ahead()

    def _heed_stop(self, watch: Watch) -> None:
        """Finish the making only if it fits into the grace; on the second signal give the claim back at once."""
        stop = self._at.stop
        if not stop.requested:
            return
        self._at.claimer.give_back()
        left = self._at.grace - (time.monotonic() - (stop.since or 0.0))
        if stop.now or watch.remaining > left:
            watch.abort(Interrupted())

    def _drain(self) -> None:
        """Deliver what is made until the grace ends; release the rest to the head of the queue."""
        stop, dispatch = self._at.stop, self._at.dispatch
        crash.point("draining")
        self._at.claimer.give_back()
        until = (stop.since or time.monotonic()) + self._at.grace
        while not dispatch.idle and not stop.now and (left := until - time.monotonic()) > 0:
            self._look_alive()
            stop.sleep(min(left, 0.5), beyond=1)
        dispatch.close()
        self._at.leases.close()
        log.info("drained", delivered=dispatch.delivered, failed=dispatch.failed)
