"""A foreign file becomes plain pixels, decoded in a process of its own that has little memory, little time, no keys."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workers.errors import Rejected
from workers.job import Size

PATIENCE = 15.0
"""Seconds until the decoder is killed; it ends itself after ten seconds of work."""

UNREADABLE = "The reference image could not be read."
REFUSALS = {
    "format": "The reference image must be a PNG, JPEG or WebP picture.",
    "pixels": "The reference image has more than 25 million pixels.",
    "frames": "The reference image must be a single picture.",
}
_SIZE = re.compile(r"([1-9]\d{0,7}) ([1-9]\d{0,7})", re.ASCII)
_DECODER = Path(__file__).with_name("decoder.py")


@dataclass(frozen=True, slots=True)
class Picture:
    """`size` is (width, height). `pixels` are its rows from the top, 8-bit RGB: width * height * 3 bytes."""

    size: Size
    pixels: bytes


def decode(data: bytes) -> Picture:
    """The pixels of one PNG, JPEG or WebP file, upright and without metadata. Raises `Rejected`.

    Both ends are files in memory: nothing unchecked touches the disk, and the decoder cannot write without end.
    """
    with _memory(data) as given, _memory() as made:
        command = [sys.executable, "-I", str(_DECODER)]
        try:
            subprocess.run(  # noqa: S603 - our own script; what is foreign is its input
                command, stdin=given, stdout=made, stderr=subprocess.DEVNULL, env={}, timeout=PATIENCE, check=True
            )
        except subprocess.SubprocessError:
            raise Rejected(UNREADABLE) from None
        made.seek(0)
        return _read(made)


def _read(made: BinaryIO) -> Picture:
    """What the decoder wrote, believed only as far as it adds up: the file may have taken it over."""
    headline = made.readline(100).rstrip().decode("ascii", "replace")
    if headline in REFUSALS:
        raise Rejected(REFUSALS[headline])
    size, pixels = _SIZE.fullmatch(headline), made.read()
    if size is None or len(pixels) != int(size[1]) * int(size[2]) * 3:
        raise Rejected(UNREADABLE)
    return Picture((int(size[1]), int(size[2])), pixels)


@contextmanager
def _memory(data: bytes = b"") -> Iterator[BinaryIO]:
    with os.fdopen(os.memfd_create("picture"), "w+b") as file:
        file.write(data)
        file.seek(0)
        yield file
