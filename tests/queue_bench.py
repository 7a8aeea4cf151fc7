"""What the queue's tests share: jobs, a queue over the redis socket, and time that passes when told to."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import valkey
from valkey.exceptions import NoScriptError

from workers.claim import Claim
from workers.errors import ClaimLost
from workers.queue.rest import ScriptMissing
from workers.queue.upstash import UpstashQueue

NAME = "sdxl_queue"
LEASE = 45.0

_RUN_DOWN = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, left - tonumber(ARGV[1])) end
end
"""


class SocketConnection:
    """Commands straight to redis, without the REST API between."""

    def __init__(self, client: valkey.Valkey) -> None:
        self._client = client

    def execute(self, command: Sequence[str | int]) -> Any:
        try:
            return _text(self._client.execute_command(*command))
        except NoScriptError:
            raise ScriptMissing from None

    def close(self) -> None:
        self._client.close()


def connect(port: int) -> valkey.Valkey:
    return valkey.Valkey(port=port, encoding_errors="surrogateescape")


def socket_queue(client: valkey.Valkey, **options: Any) -> UpstashQueue:
    return UpstashQueue(NAME, "", "", connection=SocketConnection(client), **({"lease": LEASE} | options))


def run_down(client: valkey.Valkey, seconds: float) -> None:
    """Every key's time to live is shorter by so much: for leases, that time has passed."""
    client.eval(_RUN_DOWN, 0, round(seconds * 1000))


def new_id() -> str:
    return str(uuid.uuid4())


def new_token() -> str:
    return uuid.uuid4().hex


def job(job_id: str | None = None) -> str:
    return json.dumps({"id": job_id or new_id(), "type": "sdxl_image_fast", "prompt": "a red bicycle"})


def id_of(body: str) -> str:
    return str(json.loads(body)["id"])


def claimed(queue: Any, token: str | None = None) -> Claim:
    claim = queue.claim(token or new_token()).claim
    assert isinstance(claim, Claim), "nothing to claim"
    return claim


def is_stale(queue: Any, token: str) -> bool:
    try:
        queue.claim(token)
    except ClaimLost:
        return True
    return False


def _text(reply: Any) -> Any:
    if isinstance(reply, list):
        return [_text(item) for item in reply]
    return reply.decode("utf-8", "surrogateescape") if isinstance(reply, bytes) else reply
