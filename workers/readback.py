"""A file that was just written is read back whole: it must hold the pixels that went in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.job import Media, Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

ACROSS = 256
OTHER_COLOUR = 12.0
"""How far a file's mean colour may be from that of the pixels: compression moves it by two or three levels."""
Colour = tuple[float, float, float]


class MediaError(Exception):
    """A written file does not hold what was put in. Encoding again may help."""


@dataclass(frozen=True, slots=True)
class _Held:
    """`colour` is the mean of a picture, or of a clip's middle frame."""

    size: Size
    frames: int
    colour: Colour


def compare(path: Path, frames: Frames, media: Media) -> None:
    """Raises `MediaError` where `path` does not hold `frames` (number, height, width, 3)."""
    middle = len(frames) // 2
    held = _read_video(path, middle) if media == "video" else _read_image(path)
    if (held.frames, *held.size[::-1]) != frames.shape[:3]:
        raise MediaError(f"{path.name} holds {held.frames} frames of {held.size[0]}x{held.size[1]} after encoding")
    if any(abs(one - other) > OTHER_COLOUR for one, other in zip(held.colour, _colour(frames[middle]), strict=True)):
        raise MediaError(f"{path.name} does not show what was made")


def _read_image(path: Path) -> _Held:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return _Held(picture.size, 1, _colour(np.asarray(picture.convert("RGB"))))
    except (OSError, SyntaxError) as error:
        raise MediaError(f"{path.name} cannot be read back") from error


def _read_video(path: Path, middle: int) -> _Held:
    import av

    frames, colour = 0, (0.0, 0.0, 0.0)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for frame in container.decode(stream):
                if frames == middle:
                    colour = _colour(frame.to_ndarray(format="rgb24"))
                frames += 1
            return _Held((stream.width, stream.height), frames, colour)
    except av.FFmpegError as error:
        raise MediaError(f"{path.name} cannot be read back") from error


def _colour(frame: NDArray[np.uint8]) -> Colour:
    """Mean red, green and blue of some sixty thousand pixels: among fewer, noise changes its mean once coded."""
    apart = max(1, min(frame.shape[:2]) // ACROSS)
    red, green, blue = (float(frame[::apart, ::apart, channel].mean()) for channel in range(3))
    return red, green, blue
