"""Python's search for objects that only refer to each other: seldom at a start, and never among what stays."""

from __future__ import annotations

import gc

USUAL = gc.get_threshold()
AT_START = 100_000
"""New objects between two searches. Imports make half a million that all stay; at Python's usual 700 the searches take
a third of their time."""


def search_seldom() -> None:
    gc.set_threshold(AT_START)


def keep_what_is_there() -> None:
    """Search once, then look no further at what was found in use: libraries and models."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*USUAL)
