"""Pixels and texts of files of any origin, which may hold anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.media import PARAMETERS, XMP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

FRAMES = 8
"""Of a film, evenly spread."""

FILMS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
MOST_TEXT = 1 << 20
_EXIF, _USER_COMMENT = 0x8769, 0x9286
_PACKET = re.compile(rb"<x:xmpmeta.{0,65536}?</x:xmpmeta>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Texts:
    """What a file says of itself. `parameters` is the line of settings, without any prompt."""

    source_type: str | None = None
    generator: str | None = None
    job: str | None = None
    seed: str | None = None
    model: str | None = None
    parameters: str | None = None


def frames_of(path: Path) -> NDArray[np.uint8] | None:
    """(frames, height, width, 3); None for what is no picture and no film."""
    try:
        return _film_frames(path) if path.suffix.lower() in FILMS else _picture(path)
    except (OSError, SyntaxError, ValueError):
        return None


def texts_of(path: Path) -> Texts:
    packet, comment = _film_texts(path) if path.suffix.lower() in FILMS else _picture_texts(path)
    line = (comment or "").strip().splitlines()[-1:]
    return Texts(
        source_type=_said(packet, "DigitalSourceType"),
        generator=_said(packet, "CreatorTool"),
        job=_said(packet, "JobId"),
        seed=_said(packet, "Seed"),
        model=_said(packet, "Model"),
        parameters=line[0] if line and line[0].startswith("Steps: ") else None,
    )


def _picture(path: Path) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))[None]


def _film_frames(path: Path) -> NDArray[np.uint8] | None:
    import av
    import numpy as np

    try:
        with av.open(str(path)) as film:
            every = max(1, film.streams.video[0].frames // FRAMES)
            shown = [frame for i, frame in enumerate(film.decode(video=0)) if i % every == 0][:FRAMES]
            return np.stack([frame.to_ndarray(format="rgb24") for frame in shown]) if shown else None
    except (av.FFmpegError, IndexError):
        return None


def _picture_texts(path: Path) -> tuple[str, str]:
    from PIL import Image

    with Image.open(path) as picture:
        packet = picture.info.get(XMP) or picture.info.get("xmp") or ""
        comment = picture.info.get(PARAMETERS) or _user_comment(picture)
    return _text(packet), _text(comment)


def _film_texts(path: Path) -> tuple[str, str]:
    import av

    found = _PACKET.search(path.read_bytes())
    with av.open(str(path)) as film:
        return _text(found[0] if found else b""), film.metadata.get("comment", "")


def _user_comment(picture: Image.Image) -> Any:
    comment = picture.getexif().get_ifd(_EXIF).get(_USER_COMMENT, b"")
    if isinstance(comment, bytes) and comment.startswith(b"UNICODE\0"):
        return comment.removeprefix(b"UNICODE\0").decode("utf-16-be", "replace")
    return ""


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text[:MOST_TEXT]


def _said(packet: str, name: str) -> str | None:
    """A property's value, written as an element or as an attribute."""
    found = re.search(rf"""\b{name}(?:>|=["'])([^<"']{{1,400}})""", packet)
    return found[1] if found else None
