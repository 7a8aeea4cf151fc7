"""The last look before bytes leave this process: whether the effect they have is still ours to have.

A fence passed some milliseconds ago says nothing to a process that was frozen since, and an upload takes seconds. So
clients look again before each piece of a body, without asking anybody; half a request is no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Look = Callable[[], None]

_look: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def before_bytes_leave(look: Look) -> Iterator[None]:
    """Within, and in this thread, `look` is called before anything is sent that has an effect outside."""
    former = _look.set(look)
    try:
        yield
    finally:
        _look.reset(former)


def look() -> None:
    """Raises what the look in force raises; nothing where there is none."""
    if (in_force := _look.get()) is not None:
        in_force()
