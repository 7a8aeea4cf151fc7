"""What a file shows and says, without its signature, which is another one each time it is made."""

from __future__ import annotations

from io import BytesIO

import av
from PIL import Image

Shown = tuple[bytes, tuple[tuple[str, str], ...]]


def shown(content: bytes) -> Shown:
    """The pixels, or what a film's are decoded from, and the texts."""
    if content[4:8] == b"ftyp":
        with av.open(BytesIO(content)) as film:
            return b"".join(map(bytes, film.demux(video=0))), tuple(sorted(film.metadata.items()))
    with Image.open(BytesIO(content)) as picture:
        texts = {key: value if isinstance(value, str) else repr(value) for key, value in picture.info.items()}
        return picture.convert("RGB").tobytes(), tuple(sorted(texts.items()))
