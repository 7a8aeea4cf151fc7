"""Commands to redis over Upstash's REST API: bounded in time, each failure told apart by what the caller can do."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import httpx
from upstash_redis import Redis
from upstash_redis.errors import UpstashError

from workers.errors import Unreachable
from workers.queue.budget import Budget
from workers.supabase.web import retry_after
from workers.trust import trusted

CONNECT_LIMIT = 5.0
PLAN_PAUSE = 60.0
"""Seconds to wait when the provider's own request limit is reached."""

_DENIED = frozenset({"NOAUTH", "NOPERM", "WRONGPASS", "Unauthorized"})
_PLAN_LIMIT = re.compile(r"\bmax (daily )?requests?\b", re.IGNORECASE)


class ScriptMissing(Exception):
    """The server does not have the script: nothing happened, its text must be sent."""


class Connection(Protocol):
    """One command, one reply, as text and integers; bytes that are not UTF-8 become lone surrogates.

    Not for commands whose replies the package converts, such as HGETALL (HKEYS, HVALS and HMGET are fine).
    `execute` raises `Unreachable` or `ScriptMissing`.
    """

    def execute(self, command: Sequence[str | int]) -> Any: ...
    def close(self) -> None: ...


class RestConnection:
    """One keep-alive connection of one thread. Never repeats a command: a lost reply may have taken effect."""

    def __init__(self, url: str, token: str, *, timeout: float, budget: Budget) -> None:
        self._budget = budget
        self._redis = Redis(url=url, token=token, rest_encoding=None, rest_retries=0, allow_telemetry=False)
        # The package has no time-outs, looks at no status, and decodes strictly, which would raise after a claim of
        # a body that is not UTF-8 had taken effect. Its client is private: a test guards this place.
        self._redis._http._client.close()
        self._redis._http._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_LIMIT)),
            verify=trusted(),
            headers={"Upstash-Encoding": "base64"},
            event_hooks={"response": [_classify]},
        )

    def execute(self, command: Sequence[str | int]) -> Any:
        self._budget.spend()
        try:
            with understood():
                return _decoded(self._redis.execute(list(command)))
        except UpstashError as error:
            raise _meaning(str(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"The queue did not answer ({type(error).__name__}).") from None

    def close(self) -> None:
        self._redis._http._client.close()


@contextmanager
def understood() -> Iterator[None]:
    """Read a reply: one of another form than agreed raises `Unreachable`, and is never taken for an empty queue."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError):
        raise Unreachable("The queue's answer was not understood.") from None


def _classify(response: httpx.Response) -> None:
    status = response.status_code
    if status in (401, 403):
        raise Unreachable("The queue refused the token.", denied=True)
    if status == 429:
        raise Unreachable("The queue asks to slow down.", retry_after=retry_after(response.headers))
    if status not in (200, 400):
        raise Unreachable(f"The queue answered with HTTP {status}.")


def _meaning(text: str) -> Exception:
    """Only the first word of an error is repeated: the rest may quote the command, and with it a prompt."""
    word = (text.split(maxsplit=1) or ["ERR"])[0].strip(":,")
    if word == "NOSCRIPT" or "No matching script" in text:
        return ScriptMissing()
    if _PLAN_LIMIT.search(text):
        return Unreachable("The queue's request limit is reached.", retry_after=PLAN_PAUSE)
    return Unreachable(f"The queue refused the command ({word[:32]}).", denied=word in _DENIED)


def _decoded(reply: Any) -> Any:
    """Undo the base64 that was asked for; `OK` alone always comes as it is."""
    if isinstance(reply, list):
        return [_decoded(item) for item in reply]
    if isinstance(reply, str) and reply != "OK":
        return b64decode(reply, validate=True).decode("utf-8", "surrogateescape")
    return reply
