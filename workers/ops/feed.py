"""Events for pages that are open: each gets what happens from now on, as server-sent events."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

READERS = 16
BEHIND = 100
"""Events that a reader may be behind before it is dropped: it asks for the whole state when it comes back."""

QUIET = 10.0
RETRY_MS = 2000


class Feed:
    """Any thread publishes, each reader has a thread of its own."""

    def __init__(self) -> None:
        self._readers: set[queue.Queue[bytes]] = set()
        self._lock = threading.Lock()

    @property
    def heard(self) -> bool:
        return bool(self._readers)

    def publish(self, event: str, data: Any) -> None:
        """Never waits."""
        message = encoded(event, data)
        with self._lock:
            for reader in list(self._readers):
                try:
                    reader.put_nowait(message)
                except queue.Full:
                    self._readers.discard(reader)

    def subscribe(self, first: bytes) -> Iterator[bytes] | None:
        """What to send to one reader, beginning with `first`; None while there are too many readers."""
        own: queue.Queue[bytes] = queue.Queue(BEHIND)
        with self._lock:
            if len(self._readers) >= READERS:
                return None
            self._readers.add(own)
        return self._follow(own, first)

    def _follow(self, own: queue.Queue[bytes], first: bytes) -> Iterator[bytes]:
        try:
            yield f"retry: {RETRY_MS}\n\n".encode() + first
            while own in self._readers or not own.empty():
                try:
                    yield own.get(timeout=QUIET)
                except queue.Empty:
                    yield b": nothing new\n\n"
        finally:
            with self._lock:
                self._readers.discard(own)


def encoded(event: str, data: Any) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
