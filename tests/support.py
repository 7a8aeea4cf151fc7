"""Small helpers that several test files use."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import httpx

# One request to a service on this machine. Without TLS there is no certificate store to read, which takes 40 ms.
get, post, delete = (partial(verb, verify=False, timeout=10) for verb in (httpx.get, httpx.post, httpx.delete))


def wait_until(holds: Callable[[], object], limit: float = 10.0) -> None:
    """Return as soon as it holds; fail after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, f"still not so after {limit} s"
        time.sleep(0.01)
