"""The claim protocol as the workers speak it. Times are seconds; redis gets milliseconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from workers.claim import Beat, BeatReply, Claim, ClaimReply, DeadEntry, Sight
from workers.errors import ClaimLost, Misconfigured, Unreachable
from workers.logs import log
from workers.queue.budget import Budget
from workers.queue.rest import Connection, RestConnection, understood
from workers.queue.scripts import Scripts
from workers.safety.veil import Veil, covered_result, uncovered_result

SCHEMA = 1
MAX_REASON = 500


class UpstashQueue:
    """One queue as one thread sees it. Every method raises `Unreachable`; repeating any of them does no harm.

    The methods that end a claim answer False where the token holds none any more. `ranks` says which job types are
    served first: those of a lower number. `connection` replaces the REST API, e.g. by a socket. `veil` covers what
    results say of prompts.
    """

    def __init__(
        self,
        name: str,
        url: str,
        token: str,
        *,
        lease: float,
        take_from: Literal["tail", "head"] = "tail",
        ranks: Mapping[str, int] | None = None,
        timeout: float = 10.0,
        budget: Budget | None = None,
        connection: Connection | None = None,
        veil: Veil | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.budget = budget or Budget()
        self._lease = _ms(lease)
        self._take_from = take_from
        self._ranks = _json(ranks or {})
        self._clock = clock
        self._veil = veil
        self._push = "LPUSH" if take_from == "tail" else "RPUSH"
        self._connection = connection or RestConnection(url, token, timeout=timeout, budget=self.budget)
        self._scripts = Scripts(name, self._connection.execute)

    def check(self) -> None:
        """At boot: reachable, scripts accepted, written by workers that agree with us. Raises `Misconfigured` too."""
        self._scripts.load()
        with understood():
            schema, has_json = self._scripts.run("check", SCHEMA)
        if schema != str(SCHEMA):
            raise Misconfigured([f"queue: redis holds schema {schema!s:.16}, this release understands {SCHEMA}"])
        if not has_json:
            log.warning("queue cannot read jobs", effect="repeated ones are made twice, all are served as they came")

    def claim(self, token: str) -> ClaimReply:
        """The next job, or the one this token claimed already. The caller makes the token before the first call.

        Raises `ClaimLost` when the token's own claim has ended: make a new one. A body that is not UTF-8 holds lone
        surrogates.
        """
        self.budget.require_room()
        reply = self._scripts.run("claim", token, self._lease, self._now(), self._take_from, self._ranks)
        if reply == ["STALE"]:
            raise ClaimLost("the token's claim has ended")
        with understood():
            return self._uncovered(_claim_reply(token, reply))

    def beat(self, beats: Sequence[Beat]) -> BeatReply:
        """Renew all these claims. Both sets of the answer hold tokens."""
        if not beats:
            return BeatReply()
        fields = [text for beat in beats for text in (beat.token, beat.job_id or "", _json(beat.progress))]
        with understood():
            lost, cancelled, waiting, since = self._scripts.run("beat", self._lease, self._take_from, *fields)
            return BeatReply(frozenset(lost), frozenset(cancelled), int(waiting), _seconds(since))

    def remember(self, token: str, job_id: str, result: Mapping[str, Any], body: str = "") -> bool:
        """Keep a job's result for a day, not yet delivered; the next claim of the job brings it along, with `body` in
        the place of its own where one is given."""
        return self._count("remember", token, job_id, _json(covered_result(self._veil, result)), body) == 1

    def is_delivered(self, job_id: str) -> bool:
        """Whether the end of this job was accepted within the last day."""
        return bool(self._connection.execute(("HGET", f"{self.name}:result:{job_id}", "delivered")) == "1")

    def release(self, token: str, *, counted: bool) -> bool:
        """Give the job back, to be served before all others."""
        return self._count("release", token, int(counted), self._now()) == 1

    def park(self, token: str, delay: float, *, counted: bool) -> bool:
        """Give the job back, to be served after the delay."""
        return self._count("park", token, int(counted), self._now(), _ms(delay)) == 1

    def ack(self, token: str, job_id: str | None) -> bool:
        """The job is done, and what was remembered of it is delivered."""
        return self._count("ack", token, job_id or "") == 1

    def bury(self, token: str, reason: str, job_id: str | None = None) -> bool:
        """Move the job to the dead list, the newest of which are kept. The body does not travel for this."""
        header = {"id": token, "job_id": job_id, "reason": reason[:MAX_REASON], "at": self._clock()}
        return self._count("bury", token, _json(header)) == 1

    def expire(self, tokens: Sequence[str]) -> int:
        """End the leases of a holder known to be dead. The next claim serves its jobs and counts a crash for each."""
        return self._count("expire", *tokens) if tokens else 0

    def push(self, payload: str) -> int:
        """Add a job as a producer does, and announce it; the length of the producers' list."""
        return self._count("push", payload, self._push)

    def pause(self) -> None:
        """Serve no job until resumed. What is claimed already goes on."""
        self._connection.execute(("SET", f"{self.name}:paused", "1"))

    def resume(self) -> bool:
        """Whether it was paused."""
        return self._count("resume") == 1

    def waiting(self) -> int:
        return self.sight().waiting

    def sight(self) -> Sight:
        """What waits, asked by itself: a beat of no claims."""
        asked = time.monotonic()
        with understood():
            _, _, waiting, since = self._scripts.run("beat", self._lease, self._take_from)
            return Sight(int(waiting), _seconds(since), asked)

    def dead(self, start: int = 0, count: int = 50) -> list[DeadEntry]:
        """The newest first."""
        with understood():
            entries = self._connection.execute(("LRANGE", f"{self.name}:dead", start, start + count - 1))
            return [_dead_entry(entry) for entry in entries]

    def requeue(self, entry_id: str) -> bool:
        """Back from the dead list to the end of the queue, to be made anew: no counts, and no result, are kept."""
        return self._count("requeue", _json({"id": entry_id})[:-1] + ",", self._push) == 1

    def missing(self, jobs: Mapping[str, float], *, who: str, lead: float, margin: float) -> list[str]:
        """Which of these jobs are nowhere in the queue, and older by `margin` than all that wait.

        `jobs` are id -> epoch in seconds. Whoever asks leads for `lead` seconds: everybody else is told of none.
        """
        open_jobs = [field for job_id, made in jobs.items() for field in (job_id, _ms(made))]
        reply = self._scripts.run("missing", who, _ms(lead), _ms(margin), self._take_from, *open_jobs)
        with understood():
            return [str(job_id) for job_id in iter(reply)]

    def restore(self, job_id: str, payload: str) -> bool:
        """Serve a lost job before all that wait; False if that was done in the last day."""
        return self._count("restore", job_id, payload, "RPUSH" if self._take_from == "tail" else "LPUSH") == 1

    def close(self) -> None:
        self._connection.close()

    def prune_dead(self, before: float) -> int:
        """Forget what was given up before this epoch, prompts and all; how many entries."""
        return self._count("prune", round(before))

    def _uncovered(self, reply: ClaimReply) -> ClaimReply:
        claim = reply.claim
        if claim is None or claim.result is None:
            return reply
        return replace(reply, claim=replace(claim, result=uncovered_result(self._veil, claim.result)))

    def _count(self, script: str, *arguments: str | int) -> int:
        return _number(self._scripts.run(script, *arguments))

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _number(reply: Any) -> int:
    if not isinstance(reply, int):
        raise Unreachable("The queue's answer was not understood.")
    return reply


def _claim_reply(token: str, reply: Sequence[Any]) -> ClaimReply:
    status, waiting, since, in_flight, expiry, withdrawn, *fields = reply
    if status not in ("JOB", "NONE", "PAUSED"):
        raise ValueError(status)
    return ClaimReply(
        claim=_claim(token, *fields) if status == "JOB" else None,
        waiting=int(waiting),
        in_flight=int(in_flight),
        next_expiry=_seconds(expiry),
        withdrawn=tuple(withdrawn),
        paused=status == "PAUSED",
        oldest=_seconds(since),
    )


def _claim(token: str, body: str, attempt: int, crashes: int, fence: str, *result: str | None) -> Claim:
    record, delivered = result
    known = json.loads(record) | {"delivered": delivered == "1"} if record else None
    return Claim(token, body, attempt, crashes, int(fence), known)


def _dead_entry(entry: str) -> DeadEntry:
    header, _, body = entry.partition("\n")
    fields = json.loads(header)
    return DeadEntry(fields["id"], fields["job_id"], fields["reason"], body, fields["at"])


def _json(value: Mapping[str, Any] | None) -> str:
    return "" if value is None else json.dumps(value, separators=(",", ":"))


def _seconds(ms: int | str) -> float | None:
    return int(ms) / 1000 if int(ms) >= 0 else None


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
