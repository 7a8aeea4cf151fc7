"""What the queue must hold after a sequence of calls, and what it does hold."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import valkey
from queue_bench import LEASE, NAME

from workers.claim import Claim

PROGRESS = 600.0
HASHES = ("bodies", "attempts", "crashes")


@dataclass
class Expected:
    """What must come with the next claim of a body."""

    attempt: int = 1
    crashes: int = 0


@dataclass
class Holding:
    """A claim that is in flight as far as the model knows. `left` is its lease in seconds."""

    claim: Claim
    left: float = LEASE


@dataclass
class Model:
    pushed: dict[str, Expected] = field(default_factory=dict)
    acked: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    spent: set[str] = field(default_factory=set)
    live: dict[str, Holding] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    last_fence: int = 0
    progress: dict[str, float] = field(default_factory=dict)
    """Seconds for which the progress of a job may still be read."""

    def beat(self, names: set[str]) -> None:
        for name in names & self.live.keys():
            self.live[name].left = LEASE
            if (job := job_of(self.live[name].claim.body)) not in self.results:
                self.progress[job] = PROGRESS

    def pass_time(self, seconds: float) -> None:
        for holding in self.live.values():
            holding.left -= seconds
        self.progress = {job: left - seconds for job, left in self.progress.items() if left > seconds}

    def let_go(self, token: str) -> str | None:
        """The body of a claim that has ended."""
        holding = self.live.pop(token, None)
        if holding is None:
            return None
        self.progress.pop(job_of(holding.claim.body), None)
        return holding.claim.body


def job_of(body: str) -> str:
    return str(json.loads(body)["id"])


@dataclass(frozen=True)
class Seen:
    """All of redis at one moment. Entries of the dead list end with their bodies, after a line of their own. `lives`
    are the seconds that each key has left, below zero where it has no end."""

    new: list[bytes]
    retry: list[bytes]
    dead: list[bytes]
    in_flight: dict[bytes, bytes]
    hashes: dict[str, dict[bytes, bytes]]
    lives: dict[str, int]


_LOOK = """
local keys = redis.call('KEYS', '*')
local seen, lives = {keys, {}}, {}
for at, key in ipairs(keys) do lives[at] = redis.call('TTL', key) end
seen[2] = lives
for _, name in ipairs({'', ':retry', ':dead'}) do seen[#seen + 1] = redis.call('LRANGE', KEYS[1] .. name, 0, -1) end
for at = 1, #ARGV do seen[#seen + 1] = redis.call('HGETALL', KEYS[1] .. ':' .. ARGV[at]) end
return seen
"""


def look(redis: valkey.Valkey) -> Seen:
    """In one trip."""
    keys, lives, new, retry, dead, in_flight, *hashes = redis.eval(_LOOK, 1, NAME, "inflight", *HASHES)
    ends = dict(zip((key.decode() for key in keys), lives, strict=True))
    return Seen(new, retry, dead, _pairs(in_flight), dict(zip(HASHES, map(_pairs, hashes), strict=True)), ends)


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
