"""What happens to pictures and clips on their way through the world: encoded again, smaller, cut, on a screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
from PIL import Image

from bench.pictures import Pixels

Copy = Callable[[Pixels], Pixels]


def encoded(name: str, quality: int) -> Copy:
    def copy(picture: Pixels) -> Pixels:
        file = BytesIO()
        Image.fromarray(picture).save(file, name, quality=quality)
        return np.array(Image.open(file).convert("RGB"))

    return copy


def scaled(factor: float, then: Copy = lambda picture: picture) -> Copy:
    def copy(picture: Pixels) -> Pixels:
        size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
        return then(np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)))

    return copy


def cropped(part: float) -> Copy:
    def copy(picture: Pixels) -> Pixels:
        top, left = (round(side * (1 - part) / 2) for side in picture.shape[:2])
        return picture[top : picture.shape[0] - top, left : picture.shape[1] - left].copy()

    return copy


def screenshot(picture: Pixels) -> Pixels:
    """On a grey desktop with a bar, and a little smaller."""
    small = scaled(0.9)(picture)
    height, width = small.shape[:2]
    screen = np.full((round(height * 1.25), round(width * 1.4), 3), 235, np.uint8)
    screen[: height // 12] = 60
    screen[height // 8 : height // 8 + height, width // 5 : width // 5 + width] = small
    return screen


STILLS: Mapping[str, Copy] = {
    "the file itself": lambda picture: picture,
    "JPEG 95": encoded("JPEG", 95),
    "JPEG 75": encoded("JPEG", 75),
    "JPEG 60": encoded("JPEG", 60),
    "WebP 85": encoded("WEBP", 85),
    "half size": scaled(0.5),
    "half size, JPEG 75": scaled(0.5, encoded("JPEG", 75)),
    "three quarters of it": cropped(0.75),
    "half of it": cropped(0.5),
    "half of it, JPEG 75": lambda picture: encoded("JPEG", 75)(cropped(0.5)(picture)),
    "a screenshot": screenshot,
}


def filmed(frames: Pixels, crf: int, factor: float = 1.0) -> Pixels:
    """Encoded again, and eight frames of that."""
    file, size = BytesIO(), [round(side * factor) // 2 * 2 for side in frames.shape[1:3]]
    with av.open(file, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=16, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(size[1], size[0], "yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 16)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    file.seek(0)
    with av.open(file) as film:
        shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    return np.stack(shown[:: max(1, len(shown) // 8)][:8])


FILMS: Mapping[str, Callable[[Pixels], Pixels]] = {
    "MP4 crf 18, as delivered": lambda frames: filmed(frames, 18),
    "MP4 crf 23": lambda frames: filmed(frames, 23),
    "MP4 crf 28": lambda frames: filmed(frames, 28),
    "MP4 crf 23, half size": lambda frames: filmed(frames, 23, 0.5),
}
