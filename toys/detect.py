"""What is to be seen in a picture: colour, shape, number, place and motion, read from pixels without any learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toys.world import COLOURS, COLUMNS, MOTIONS, ROWS, SHAPES, SIZES, Item, Place, Wish, cover_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Mask = NDArray[np.bool_]

CONTRAST = 55.0
"""How far in RGB a pixel must be from the background to belong to a thing."""
SPECK = 0.006
"""What is smaller, as a part of the picture, is no thing."""
THIRDS = (0.4, 0.6)
BIG = (SIZES["small"][1] + SIZES["big"][0]) / 2
STILL = 0.08
"""A thing that gets less far in a clip, as a part of the side, stands still."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A thing as seen. `x`, `y` and `radius` are parts as in `Thing`; `fit` is how well the shape covers it, to 1."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    fit: float

    @property
    def place(self) -> Place:
        return COLUMNS[_third(self.x)], ROWS[_third(self.y)]

    @property
    def size(self) -> str:
        return "big" if self.radius > BIG else "small"


@dataclass(frozen=True, slots=True)
class Seen:
    """The largest thing first."""

    background: str
    blobs: tuple[Blob, ...]


def look(picture: Pixels) -> Seen:
    """Read one picture (height, width, 3)."""
    import numpy as np

    ground = _ground(picture)
    masks = _parts(np.linalg.norm(picture - ground, axis=2) > CONTRAST)
    masks = [mask for mask in masks if mask.mean() > SPECK]
    blobs = [_blob(picture, mask) for mask in sorted(masks, key=np.sum, reverse=True)]
    return Seen(_name(ground), tuple(blobs))


def grants(wish: Wish, seen: Seen) -> bool:
    """Whether all that the wish says is to be seen."""
    if wish.background not in (None, seen.background):
        return False
    if wish.count not in (None, len(seen.blobs)) or not seen.blobs:
        return False
    if len(wish.items) == 2:
        return len(seen.blobs) == 2 and all(any(_is(item, blob) for blob in seen.blobs) for item in wish.items)
    return all(_is(wish.items[0], blob) for blob in seen.blobs) and _lined(wish, seen)


def path(clip: Pixels) -> NDArray[np.float64]:
    """(frames, 2): where the largest thing is in each frame, as parts of width and height; nan where there is none."""
    import numpy as np

    seen = [look(frame).blobs for frame in clip]
    return np.array([(blobs[0].x, blobs[0].y) if blobs else (np.nan, np.nan) for blobs in seen])


def motion(clip: Pixels) -> str:
    """Which of `MOTIONS` the largest thing makes, or "still"; by the first and last frames that show one."""
    import numpy as np

    track = path(clip)
    track = track[~np.isnan(track).any(1)]
    if len(track) < 2:
        return "still"
    way = track[-2:].mean(0) - track[:2].mean(0)
    if max(abs(way)) < STILL:
        return "still"
    return max(MOTIONS, key=lambda name: float(np.dot(MOTIONS[name], way)))


def _is(item: Item, blob: Blob) -> bool:
    said = (item.shape, item.colour, item.size, item.place)
    return all(a in (None, b) for a, b in zip(said, (blob.shape, blob.colour, blob.size, blob.place), strict=True))


def _lined(wish: Wish, seen: Seen) -> bool:
    """Things in a row differ most from left to right, things in a column from top to bottom."""
    if wish.line is None or len(seen.blobs) < 2:
        return True
    wide, high = (max(parts) - min(parts) for parts in ([b.x for b in seen.blobs], [b.y for b in seen.blobs]))
    return (wide > high) == (wish.line == "row")


def _third(part: float) -> int:
    return sum(part > edge for edge in THIRDS)


def _ground(picture: Pixels) -> Any:
    """The colour of most pixels at the border: the median of those that bear the commonest name."""
    import numpy as np

    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(float)
    names = _nearest(border)
    return np.median(border[names == np.bincount(names).argmax()], axis=0)


def _nearest(colours: Any) -> Any:
    """The index of the nearest named colour for each row."""
    import numpy as np

    return np.linalg.norm(colours[:, None] - np.array(list(COLOURS.values())), axis=2).argmin(1)


def _name(colour: Any) -> str:
    return list(COLOURS)[int(_nearest(colour[None])[0])]


def _parts(mask: Mask) -> list[Mask]:
    """The connected parts of a mask, by flooding numbers from pixel to pixel until nothing changes."""
    import numpy as np

    numbers = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        wide = np.pad(numbers, 1)
        around = [wide[1:-1, :-2], wide[1:-1, 2:], wide[:-2, 1:-1], wide[2:, 1:-1]]
        flooded = np.where(mask, np.maximum.reduce([numbers, *around]), 0)
        if (flooded == numbers).all():
            return [numbers == number for number in np.unique(numbers) if number]
        numbers = flooded


def _blob(picture: Pixels, mask: Mask) -> Blob:
    import numpy as np

    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    x, y = float(xs.min() + xs.max() + 1) / 2, float(ys.min() + ys.max() + 1) / 2
    half = (float(np.ptp(xs)) + float(np.ptp(ys)) + 2) / 4
    fits = {shape: _fit(shape, mask, x, y, half) for shape in SHAPES}
    shape = max(fits, key=lambda name: fits[name][0])
    colour = _name(np.median(picture[_core(mask)].astype(float), axis=0))
    return Blob(shape, colour, x / width, y / height, fits[shape][1] / min(width, height), fits[shape][0])


def _fit(shape: str, mask: Mask, x: float, y: float, half: float) -> tuple[float, float]:
    """The share of common pixels with the ideal shape of this extent, and the radius that gives this extent."""
    import numpy as np

    radius = half / {"square": 0.88, "triangle": 0.9}.get(shape, 1.0)
    rows, columns = np.mgrid[0.5 : mask.shape[0], 0.5 : mask.shape[1]]
    ideal = cover_of(shape, columns - x, rows - y, radius) > 0.5
    return float((ideal & mask).sum() / max(1, (ideal | mask).sum())), radius


def _core(mask: Mask) -> Mask:
    """The mask without its edge, where colours blend; all of it where nothing else is left."""
    import numpy as np

    wide = np.pad(mask, 1)
    inner = mask & wide[1:-1, :-2] & wide[1:-1, 2:] & wide[:-2, 1:-1] & wide[2:, 1:-1]
    return inner if inner.any() else mask
