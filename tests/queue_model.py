"""What the queue must hold after a sequence of calls, for comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from queue_bench import LEASE

from workers.claim import Claim


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


def job_of(body: str) -> str:
    return str(json.loads(body)["id"])
