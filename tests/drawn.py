"""Pictures and clips that tests send as references: drawn, small, and of two colours that can be told apart."""

from __future__ import annotations

import io
import struct
import zlib

import av
import numpy as np
from PIL import Image

RED, BLUE = (200, 40, 40), (30, 60, 200)


def halves(width: int = 96, height: int = 64) -> np.ndarray:
    """Red on the left, blue on the right."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = RED, BLUE
    return pixels


def png(pixels: np.ndarray | None = None, form: str = "PNG", **options: object) -> bytes:
    Image.fromarray(halves() if pixels is None else pixels).save(file := io.BytesIO(), form, **options)
    return file.getvalue()


def animated(form: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    frames[0].save(file := io.BytesIO(), form, save_all=True, append_images=frames[1:])
    return file.getvalue()


def bomb(side: int = 50_000) -> bytes:
    """A picture of a few bytes that announces billions of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def clip(frames: int = 24, fps: int = 16, size: tuple[int, int] = (64, 48), form: str = "mp4") -> bytes:
    """A red bar that grows from the left over blue; whole when the clip ends."""
    codec = {"mp4": "libx264", "webm": "libvpx-vp9"}[form]
    with av.open(file := io.BytesIO(), "w", format=form) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(frames):
            pixels = np.full((size[1], size[0], 3), BLUE, np.uint8)
            pixels[:, : size[0] * (index + 1) // frames] = RED
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def turned(mp4: bytes) -> bytes:
    """The same clip with the note that it is to be shown a quarter turn clockwise."""

    def matrix(*values: int) -> bytes:
        return struct.pack(">9i", *values)

    one, upright = 0x10000, mp4.index(b"tkhd")
    plain = matrix(one, 0, 0, 0, one, 0, 0, 0, 0x40000000)
    at = mp4.index(plain, upright)
    return mp4[:at] + matrix(0, one, 0, -one, 0, 0, 0, 0, 0x40000000) + mp4[at + len(plain) :]
