"""A disk of a known rate, as a network volume is, for starts that are measured. Only the bench has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

from workers.card import loader

MB = 10**6


class Bucket:
    """Tokens for bytes, so many a second, for all threads together. None are saved up while nobody asks."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free = rate, 0.0
        self._lock = threading.Lock()

    def due(self, size: int) -> float:
        """When the disk has got that far (`time.monotonic`), after all that it was asked for before."""
        with self._lock:
            self._free = max(self._free, time.monotonic()) + size / self._rate
            return self._free


@contextmanager
def throttled(rate: float) -> Iterator[None]:
    """Meanwhile what the loader reads of weights takes as long as from a disk of `rate` bytes a second."""
    bucket, read = Bucket(rate), loader.read_into

    def read_slowly(memory: memoryview, file: FileIO, offset: int) -> None:
        due = bucket.due(len(memory))
        read(memory, file, offset)
        time.sleep(max(0.0, due - time.monotonic()))

    loader.read_into = read_slowly
    try:
        yield
    finally:
        loader.read_into = read
