"""Decodes the file on standard input; `workers.references.picture` runs this one as a process of its own.

Without arguments it is a picture, with "FRAMES FPS WIDTH HEIGHT" a clip. It writes a line, "WIDTH HEIGHT [FRAMES]" or
why it refuses, then the pixels as RGB. A file that takes it over, bursts its limits or crashes it finds no secret, no
second process and nothing to write to.
"""

from __future__ import annotations

import io
import resource
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

MAX_PIXELS = 25_000_000
MAX_CLIP_PIXELS = 1920 * 1088
MAX_CLIP_SECONDS = 60.0
FORMATS = ("PNG", "JPEG", "WEBP")
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4")
LIMITS = {
    resource.RLIMIT_AS: 2**30,
    resource.RLIMIT_CPU: 10,
    resource.RLIMIT_FSIZE: 3 * MAX_PIXELS + 1000,
    resource.RLIMIT_CORE: 0,
}
CLIP_LIMITS = LIMITS | {resource.RLIMIT_CPU: 30, resource.RLIMIT_FSIZE: 120_000_000}
"""Bytes and seconds."""

SOON = 1e-3
"""Seconds by which clocks of files differ from ours."""

MATROSKA = b"\x1aE\xdf\xa3"
WHITE = (255, 255, 255, 255)


def main() -> None:
    wishes = tuple(map(int, sys.argv[1:5]))
    for what, most in (CLIP_LIMITS if wishes else LIMITS).items():
        resource.setrlimit(what, (most, most))
    data = sys.stdin.buffer.read()
    headline, pixels = _clip(data, *wishes) if wishes else _picture(data)
    sys.stdout.buffer.write(headline.encode() + b"\n" + pixels)


def _picture(data: bytes) -> tuple[str, bytes]:
    """The line, and the pixels if any. Whatever else is wrong with the data ends the process."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if getattr(image, "n_frames", 1) != 1:
                return "frames", b""
            upright = _on_white(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return "pixels", b""
    except UnidentifiedImageError:
        return "format", b""
    return f"{upright.width} {upright.height}", upright.tobytes()


def _on_white(image: Any) -> Any:
    """Where a picture is transparent, its own colours are whatever its program left there. Of 16 bits the upper eight
    count: converting as they are would leave nothing but white."""
    from PIL import Image

    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")


def _clip(data: bytes, most: int, fps: int, width: int, height: int) -> tuple[str, bytes]:
    import av

    form = "matroska" if data[:4] == MATROSKA else "mp4"
    with av.open(io.BytesIO(data), format=form) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.codec_context.name not in CODECS:
            return "clip", b""
        if (container.duration or 0) / 1e6 > MAX_CLIP_SECONDS:
            return "clip length", b""
        stream.codec_context.thread_count = 1
        made = []
        for frame in _paced(container.decode(stream), most, fps):
            if frame.width * frame.height > MAX_CLIP_PIXELS:
                return "clip size", b""
            made.append(_fitted(frame, width, height))
    return f"{width} {height} {len(made)}", b"".join(made)


def _paced(frames: Iterable[Any], most: int, fps: int) -> Iterator[Any]:
    """What is to be seen at each tick, at most so many times."""
    told, shown, began, at = 0, None, 0.0, 0.0
    for frame in frames:
        at = frame.time if frame.time is not None else at
        if shown is None:
            began = at
        while shown is not None and told < most and told / fps < at - began - SOON:
            told += 1
            yield shown
        if told >= most:
            return
        shown = frame
    if shown is not None and told / fps <= at - began + SOON:
        yield shown


def _fitted(frame: Any, width: int, height: int) -> bytes:
    """Upright, scaled to fill, and cut to size around its middle."""
    import numpy as np

    turns = round(frame.rotation / 90) % 4
    across, down = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    scale = max(width / across, height / down)
    wide, high = max(width, round(across * scale)), max(height, round(down * scale))
    sides = (high, wide) if turns % 2 else (wide, high)
    pixels = np.rot90(frame.reformat(*sides, format="rgb24").to_ndarray(), turns)
    left, top = (wide - width) // 2, (high - height) // 2
    return bytes(np.ascontiguousarray(pixels[top : top + height, left : left + width]))


if __name__ == "__main__":
    main()
