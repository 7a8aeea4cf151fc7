"""Sheets of pictures and clips with their prompts, for a person to look at."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Shown = tuple[str, Any]
"""A prompt, and a picture (height, width, 3) or a clip (frames, height, width, 3)."""
ZOOM, WORDS, LETTERS, ACROSS, STRIP = 2, 40, 22, 12, 8
"""Pixels for one, pixels of height for the words, letters in a line of them, pictures in a row, frames of a clip."""


def write_grid(shown: Sequence[Shown], file: Path) -> None:
    """Pictures in rows, each above its prompt."""
    rows = [shown[start : start + ACROSS] for start in range(0, len(shown), ACROSS)]
    _write([[(words, picture) for words, picture in row] for row in rows], file)


def write_strips(shown: Sequence[Shown], file: Path) -> None:
    """Clips one above the other, as frames from left to right."""
    import numpy as np

    strips = [(words, clip[np.linspace(0, len(clip) - 1, STRIP).astype(int)]) for words, clip in shown]
    _write(
        [[(words if not number else "", frame) for number, frame in enumerate(strip)] for words, strip in strips], file
    )


def _write(rows: Sequence[Sequence[Shown]], file: Path) -> None:
    from PIL import Image, ImageDraw

    height, width = (side * ZOOM for side in rows[0][0][1].shape[:2])
    sheet = Image.new("RGB", ((width + 4) * max(map(len, rows)), (height + WORDS) * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for down, row in enumerate(rows):
        for across, (words, picture) in enumerate(row):
            corner = across * (width + 4), down * (height + WORDS)
            sheet.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), corner)
            pen.text(
                (corner[0], corner[1] + height), "\n".join(textwrap.wrap(words, LETTERS)[:3]), "black", font_size=10
            )
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file)
