"""Something is looked at again and again while something else is measured."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def looking(look: Callable[[], None], every: float) -> Iterator[None]:
    """Meanwhile a thread calls `look`, at once and then after so many seconds each."""
    over = threading.Event()

    def go_on() -> None:
        while True:
            look()
            if over.wait(every):
                return

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
