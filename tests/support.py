"""Small helpers that several test files use."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], object], limit: float = 10.0) -> None:
    """Return as soon as it holds; fail after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, f"still not so after {limit} s"
        time.sleep(0.01)
