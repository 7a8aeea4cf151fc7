"""What every client of Supabase shares: who we are to it, what its answers mean, where its errors go."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import httpx

from workers import fence
from workers.errors import Unreachable

USER_AGENT = "ourvidz-workers"
TRANSIENT = frozenset({408, 425, 429})
MAX_RETRY_AFTER = 3600.0


def auth_headers(key: str) -> dict[str, str]:
    """Legacy keys are JWTs and go in both headers; `sb_secret_…` keys are not, and fail as a bearer token."""
    bearer = {} if key.startswith("sb_") else {"Authorization": f"Bearer {key}"}
    return {"apikey": key, "User-Agent": USER_AGENT} | bearer


def passes(status: int) -> bool:
    """Whether the same request may do better later. Redirects count: nothing of ours moves for good."""
    return status in TRANSIENT or status >= 500 or 300 <= status < 400


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The server's wish in seconds, from either form of the header; None where it has none that makes sense."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def true_status(response: httpx.Response) -> int:
    """Storage answers 400 for most errors and says in the body, which has been read, which one it means."""
    try:
        return int(response.json()["statusCode"])
    except (ValueError, TypeError, KeyError):
        return response.status_code


class _Fenced(httpx.SyncByteStream):
    """A request's body that looks before each piece whether it may still be sent."""

    def __init__(self, body: httpx.SyncByteStream) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._body:
            fence.look()
            yield piece


def fenced(request: httpx.Request) -> None:
    """A request hook for clients whose requests have effects."""
    assert isinstance(request.stream, httpx.SyncByteStream)
    request.stream = _Fenced(request.stream)


@contextmanager
def reaching(whom: str) -> Iterator[None]:
    """Transport errors become `Unreachable`, without the address they carry."""
    try:
        yield
    except httpx.RequestError as error:
        raise Unreachable(f"{whom} did not answer: {type(error).__name__}") from None
