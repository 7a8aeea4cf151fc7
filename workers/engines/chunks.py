"""Tokens of a text that is longer than its encoder's window, in chunks that end where a reader would pause."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Ends = Callable[[str, str], bool]
"""Whether a chunk may end between a piece of text and the next one."""


def split(pieces: Sequence[str], room: int, ends: Sequence[Ends]) -> list[slice]:
    """Chunks of at most `room` pieces, at least one, each but the last at least half full.

    A chunk ends at the last place that the first of `ends` allows, else the second, and so on, else where it is full.
    """
    chunks, start = [], 0
    while len(pieces) - start > room:
        end = next((end for may_end in ends if (end := _last(pieces, start, room, may_end))), start + room)
        chunks.append(slice(start, end))
        start = end
    return [*chunks, slice(start, len(pieces))]


def _last(pieces: Sequence[str], start: int, room: int, may_end: Ends) -> int | None:
    places = range(start + room, start + room // 2, -1)
    return next((end for end in places if may_end(pieces[end - 1], pieces[end])), None)
