"""Kernels of our own: whether they can be compiled and run here, where what was compiled is kept, how wide they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from workers.logs import describe, log


def keep_in(folder: Path | None) -> None:
    """Triton keys what it keeps by card, compiler and source; without a folder it is in the user's home."""
    if folder is not None:
        os.environ.setdefault("TRITON_CACHE_DIR", str(folder / "triton"))


def usable(trial: Callable[[], object]) -> bool:
    """`trial` runs a kernel. Without them everything works, at its libraries' speed."""
    try:
        trial()
    except Exception as error:  # triton or its C compiler is missing, or knows no such card
        log.warning("kernels unavailable", **describe(error))
        return False
    return True


def power_of_two(number: int) -> int:
    """The least that is not below: Triton's blocks have no other sizes."""
    return 1 << (number - 1).bit_length()
