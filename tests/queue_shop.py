"""A queue at a time of its own, whose jobs have names, for tests of what is served when."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
import valkey
from queue_bench import NAME, new_id, new_token, socket_queue

RANKS = {"sdxl_image_fast": 0, "sdxl_image_high": 1}
NOW = 1_752_545_550.0
MINUTE = 60.0


class Shop:
    """A queue at a time of its own, and what was pushed under which name."""

    def __init__(self, redis: valkey.Valkey, take_from: Literal["tail", "head"] = "tail") -> None:
        self.now = NOW
        self.redis, self._push = redis, redis.lpush if take_from == "tail" else redis.rpush
        self.queue = socket_queue(redis, ranks=RANKS, take_from=take_from, clock=lambda: self.now)
        self._names: dict[bytes, str] = {}

    def push(self, name: str, job_type: str = "sdxl_image_fast", *, age: float = 0.0, **fields: Any) -> None:
        made = datetime.fromtimestamp(self.now - age, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.push_raw(name, json.dumps({"id": new_id(), "type": job_type, "created_at": made, **fields}).encode())

    def push_raw(self, name: str, body: bytes) -> None:
        self._names[body] = name
        self._push(NAME, body)

    def serve(self, count: int | None = None) -> list[str]:
        """Claim and finish so many jobs, by default all; their names in the order served."""
        served: list[str] = []
        while len(served) != count and (claim := self.queue.claim(new_token()).claim):
            served.append(self._names[claim.body.encode("utf-8", "surrogateescape")])
            self.queue.ack(claim.token, None)
        return served


@pytest.fixture(params=["tail", "head"])
def shop(redis: valkey.Valkey, request: pytest.FixtureRequest) -> Shop:
    return Shop(redis, request.param)
