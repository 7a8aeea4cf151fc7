"""A foreign file becomes plain pixels, decoded in a process of its own that has little memory, little time, no keys."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from workers.errors import Rejected
from workers.job import FPS, Picture, Size

PATIENCE = 15.0
CLIP_PATIENCE = 45.0
"""Seconds until the decoder is killed; it ends itself after ten, or thirty, seconds of work."""

UNREADABLE = "The reference image could not be read."
REFUSALS = {
    "format": "The reference image must be a PNG, JPEG or WebP picture.",
    "pixels": "The reference image has more than 25 million pixels.",
    "frames": "The reference image must be a single picture.",
    "clip": "The reference clip must be an MP4 or WebM video.",
    "clip size": "The reference clip is larger than 1920*1080.",
    "clip length": "The reference clip is longer than a minute.",
}
_SIZE = re.compile(r"([1-9]\d{0,7}) ([1-9]\d{0,7})(?: ([1-9]\d{0,2}))?", re.ASCII)
_DECODER = Path(__file__).with_name("decoder.py")


def decode(data: bytes) -> Picture:
    """The pixels of one PNG, JPEG or WebP file, upright, on white and without metadata. Raises `Rejected`."""
    return _decoded(data, PATIENCE)


def decode_clip(data: bytes, frames: int, size: Size) -> Picture:
    """The first `frames` frames of an MP4 or WebM file at `FPS` a second, or as many as it has, filling `size`; what
    stands out is cut off. Raises `Rejected`."""
    clip = _decoded(data, CLIP_PATIENCE, str(frames), str(FPS), *map(str, size))
    if clip.size != size or clip.frames > frames:
        raise Rejected(UNREADABLE)
    return clip


def is_clip(data: bytes) -> bool:
    """By its first bytes. Pictures that are packed like an MP4 are none."""
    return data[:4] == b"\x1aE\xdf\xa3" or (data[4:8] == b"ftyp" and data[8:11] not in (b"avi", b"hei", b"mif"))


def _decoded(data: bytes, patience: float, *wishes: str) -> Picture:
    """Both ends are files in memory: nothing unchecked touches the disk, and the decoder cannot write without end."""
    with _memory(data) as given, _memory() as made:
        command = [sys.executable, "-I", str(_DECODER), *wishes]
        try:
            subprocess.run(  # noqa: S603 - our own script; what is foreign is its input
                command, stdin=given, stdout=made, stderr=subprocess.DEVNULL, env={}, timeout=patience, check=True
            )
        except subprocess.SubprocessError:
            raise Rejected(UNREADABLE) from None
        made.seek(0)
        return _read(made, hashlib.sha256(data).hexdigest())


def _read(made: BinaryIO, digest: str) -> Picture:
    """What the decoder wrote, believed only as far as it adds up: the file may have taken it over."""
    headline = made.readline(100).rstrip().decode("ascii", "replace")
    if headline in REFUSALS:
        raise Rejected(REFUSALS[headline])
    size, pixels = _SIZE.fullmatch(headline), made.read()
    if size is None:
        raise Rejected(UNREADABLE)
    width, height, frames = int(size[1]), int(size[2]), int(size[3] or 1)
    if len(pixels) != width * height * frames * 3:
        raise Rejected(UNREADABLE)
    return Picture((width, height), pixels, frames, digest)


@contextmanager
def _memory(data: bytes = b"") -> Iterator[BinaryIO]:
    with os.fdopen(os.memfd_create("picture"), "w+b") as file:
        file.write(data)
        file.seek(0)
        yield file
