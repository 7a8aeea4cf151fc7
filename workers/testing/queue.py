"""Parts that behave like the real ones without network, disk or card, for tests and for trying things out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from threading import RLock
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from workers.claim import Beat, BeatReply, Claim, ClaimReply, DeadEntry
from workers.errors import ClaimLost
from workers.testing.kept import Held, Waiting, job_of, made_at

P = ParamSpec("P")
T = TypeVar("T")


def _served(method: Callable[Concatenate[MemoryQueue, P], T]) -> Callable[Concatenate[MemoryQueue, P], T]:
    @wraps(method)
    def call(self: MemoryQueue, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            self.before(method.__name__)
            answer = method(self, *args, **kwargs)
            self.after(method.__name__)
            return answer

    return call


class MemoryQueue:
    """The queue's claim protocol in memory. Any number of threads may share one.

    `before` and `after` are called with each method's name and may raise `Unreachable`: the request or the reply
    is lost then. Add a job id to `withdrawn` to cancel it. Jobs are served in the order they came, without priorities.
    """

    def __init__(
        self,
        *,
        lease: float = 45.0,
        take_from: Literal["tail", "head"] = "tail",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.before: Callable[[str], None] = _nothing
        self.after: Callable[[str], None] = _nothing
        self.withdrawn: set[str] = set()
        self.paused = False
        self.progress: dict[str, Mapping[str, Any]] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.fence = 0
        self._lease, self._clock, self._tail = lease, clock, take_from == "tail"
        self._list: deque[str] = deque()
        self._retry: deque[Waiting] = deque()
        self._held: dict[str, Held] = {}
        self._parked: list[Held] = []
        self._owners: dict[str, str] = {}
        self._used: set[str] = set()
        self._dead: deque[DeadEntry] = deque(maxlen=1000)
        self._lock = RLock()

    @_served
    def check(self) -> None:
        """Always fit."""

    @_served
    def claim(self, token: str) -> ClaimReply:
        if token in self._held:
            self._renew(token)
        elif token in self._used:
            raise ClaimLost("the token's claim has ended")
        self._reap()
        withdrawn = [] if token in self._held or self.paused else self._take(token)
        ends = [held.ends for held in (*self._held.values(), *self._parked)]
        waiting, soonest = len(self._list) + len(self._retry), min(ends, default=None)
        next_expiry = None if soonest is None else max(0.0, soonest - self._clock())
        claim, paused = self._described(token), self.paused and token not in self._held
        return ClaimReply(claim, waiting, len(self._held), next_expiry, tuple(withdrawn), paused, self._oldest())

    @_served
    def beat(self, beats: Sequence[Beat]) -> BeatReply:
        ours = [beat for beat in beats if beat.token in self._held]
        for beat in ours:
            self._renew(beat.token)
            if beat.job_id and beat.progress is not None and beat.job_id not in self.results:
                self.progress[beat.job_id] = beat.progress
        return BeatReply(
            lost=frozenset(beat.token for beat in beats if beat.token not in self._held),
            cancelled=frozenset(beat.token for beat in ours if beat.job_id in self.withdrawn),
            waiting=len(self._list) + len(self._retry),
            oldest=self._oldest(),
        )

    @_served
    def remember(self, token: str, job_id: str, result: Mapping[str, Any], body: str = "") -> bool:
        if held := self._held.get(token):
            self._held[token] = replace(held, job=replace(held.job, body=body or held.job.body))
            self.results[job_id] = {**result, "delivered": False}
            self.progress.pop(job_id, None)
        return token in self._held

    @_served
    def release(self, token: str, *, counted: bool) -> bool:
        if job := self._let_go(token, counted=counted):
            self._retry.appendleft(job)
        return job is not None

    @_served
    def park(self, token: str, delay: float, *, counted: bool) -> bool:
        if job := self._let_go(token, counted=counted):
            self._parked.append(Held(job, 0, self._clock() + delay))
        return job is not None

    @_served
    def ack(self, token: str, job_id: str | None) -> bool:
        job = self._let_go(token)
        if job and job_id in self.results:
            self.results[job_id]["delivered"] = True
        return job is not None

    @_served
    def bury(self, token: str, reason: str, job_id: str | None = None) -> bool:
        if job := self._let_go(token):
            self._dead.appendleft(DeadEntry(token, job_id, reason, job.body, self._clock()))
        return job is not None

    @_served
    def expire(self, tokens: Sequence[str]) -> int:
        ours = [token for token in tokens if token in self._held]
        for token in ours:
            self._held[token] = replace(self._held[token], ends=self._clock())
        return len(ours)

    @_served
    def push(self, body: str) -> int:
        self._list.appendleft(body) if self._tail else self._list.append(body)
        return len(self._list)

    @_served
    def waiting(self) -> int:
        return len(self._list) + len(self._retry)

    @_served
    def dead(self, start: int = 0, count: int = 50) -> list[DeadEntry]:
        return list(self._dead)[start : start + count]

    @_served
    def requeue(self, entry_id: str) -> bool:
        entry = next((entry for entry in self._dead if entry.id == entry_id), None)
        if entry:
            self._dead.remove(entry)
            self.results.pop(job_of(entry.body), None)
            self.push(entry.body)
        return entry is not None

    @_served
    def pause(self) -> None:
        self.paused = True

    @_served
    def resume(self) -> bool:
        was, self.paused = self.paused, False
        return was

    def close(self) -> None:
        """Nothing to close."""

    def _renew(self, token: str) -> None:
        self._held[token] = replace(self._held[token], ends=self._clock() + self._lease)

    def _reap(self) -> None:
        for token, held in list(self._held.items()):
            if held.ends <= self._clock():
                self._leave(token)
                self._retry.append(replace(held.job, crashes=held.job.crashes + 1))
        self._retry += [held.job for held in self._parked if held.ends <= self._clock()]
        self._parked = [held for held in self._parked if held.ends > self._clock()]

    def _take(self, token: str) -> list[str]:
        """Claim the next job; returns those that were dropped before it, since their users had cancelled them."""
        withdrawn = []
        while self._retry or self._list:
            job = self._next()
            job_id = job_of(job.body)
            owner = self._held.get(self._owners.get(job_id, ""))
            if job_id in self.withdrawn:
                withdrawn.append(job_id)
                self.progress.pop(job_id, None)
            elif owner is not None:
                self._parked.append(Held(job, 0, owner.ends))
            else:
                self._hold(token, replace(job, attempts=job.attempts + 1))
                break
        return withdrawn

    def _next(self) -> Waiting:
        if self._retry:
            return self._retry.popleft()
        return Waiting(self._list.pop() if self._tail else self._list.popleft())

    def _hold(self, token: str, job: Waiting) -> None:
        self.fence = max(self.fence + 1, int(self._clock() * 1000))
        self._held[token] = Held(job, self.fence, self._clock() + self._lease)
        self._used.add(token)
        self._owners[job_of(job.body) or token] = token

    def _leave(self, token: str, *, counted: bool = True) -> Waiting | None:
        held = self._held.pop(token, None)
        return None if held is None else replace(held.job, attempts=held.job.attempts - (not counted))

    def _let_go(self, token: str, *, counted: bool = True) -> Waiting | None:
        """The claim ends, and nobody says any more how far the job is."""
        job = self._leave(token, counted=counted)
        self.progress.pop(job_of(job.body) if job else "", None)
        return job

    def _oldest(self) -> float | None:
        firsts = [self._list[-1 if self._tail else 0]] if self._list else []
        firsts += [self._retry[0].body] if self._retry else []
        return min(filter(None, map(made_at, firsts)), default=None)

    def _described(self, token: str) -> Claim | None:
        held = self._held.get(token)
        if held is None:
            return None
        result = self.results.get(job_of(held.job.body))
        return Claim(token, held.job.body, held.job.attempts, held.job.crashes, held.fence, result and dict(result))


def _nothing(_: str) -> None:
    pass
