"""A world of solid shapes on plain backgrounds, drawn with NumPy: all that the toy models know.

A `Wish` says what a caption says; `fill` makes up the rest; `draw` paints the scene that comes of it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "orange": (250, 140, 10),
    "yellow": (250, 230, 40),
    "green": (30, 165, 60),
    "blue": (35, 65, 220),
    "purple": (150, 45, 190),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
SHAPES = ("circle", "square", "triangle", "cross")
SIZES: Mapping[str, tuple[float, float]] = {"small": (0.13, 0.15), "big": (0.25, 0.28)}
"""Radii, as parts of the picture's shorter side."""
CROWDED: Mapping[int, tuple[float, float]] = {2: (0.14, 0.18), 3: (0.11, 0.125)}
"""Radii of several things of one kind."""
COLUMNS = ("left", "centre", "right")
ROWS = ("top", "middle", "bottom")
MOTIONS: Mapping[str, tuple[int, int]] = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
TRAVEL = 0.5
"""How far a moving thing gets in a clip, as a part of the picture's width or height."""
JITTER = 0.03
MARGIN = 0.03
SPREAD: Mapping[int, float] = {1: 0.27, 2: 0.25, 3: 0.32}
"""How far from the middle, as a part of the side, what is not in the middle lies, by the number of things."""

Place = tuple[str, str]
CENTRE: Place = ("centre", "middle")
PLACES: tuple[Place, ...] = tuple((column, row) for row in ROWS for column in COLUMNS)


@dataclass(frozen=True, slots=True)
class Item:
    """One kind of thing; None is what nobody said."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caption says: `count` things like the only item, or one of each of two items. `line` is "row" or
    "column" for several things; `motion` is one of `MOTIONS` or "still"."""

    items: tuple[Item, ...] = (Item(),)
    count: int | None = None
    background: str | None = None
    line: str | None = None
    motion: str | None = None


@dataclass(frozen=True, slots=True)
class Thing:
    """`x` and `y` are parts of the width and height, `radius` of the shorter side; `dx` and `dy` the way through a
    clip, of which `x` and `y` are the middle."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    dx: float = 0.0
    dy: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    things: tuple[Thing, ...]
    background: str


def any_wish(chance: random.Random) -> Wish:
    """One thing more often than several, everything about it open."""
    kind = chance.random()
    if kind < 0.62:
        return Wish(count=1)
    if kind < 0.84:
        return Wish(count=chance.choice((2, 3)))
    return Wish(items=(Item(), Item()))


def fill(wish: Wish, chance: random.Random, *, width: int, height: int) -> tuple[Wish, Scene]:
    """The wish with everything said, and a scene that grants it."""
    count = wish.count or (1 if len(wish.items) == 1 else 2)
    items = tuple(_item(item, chance, alone=count == 1) for item in wish.items)
    items = _told_apart(wish, items, chance) if len(items) == 2 else items
    taken = {item.colour for item in items}
    background = wish.background or chance.choice([colour for colour in COLOURS if colour not in taken])
    items = tuple(_unlike(item, background, asked, chance) for item, asked in zip(items, wish.items, strict=True))
    line = wish.line or (chance.choice(("row", "column")) if count > 1 else None)
    full = Wish(items, count, background, line, wish.motion)
    return full, Scene(tuple(_things(full, chance, width, height)), background)


def draw(scene: Scene, *, width: int, height: int, frames: int = 1, part: slice = slice(None)) -> Pixels:
    """(frames, height, width, 3), edges smooth; of a clip only the frames of `part`."""
    import numpy as np

    times = np.linspace(-0.5, 0.5, frames)[part] if frames > 1 else np.zeros(1)
    canvas = np.empty((len(times), height, width, 3))
    canvas[:] = COLOURS[scene.background]
    y, x = np.mgrid[0.5:height, 0.5:width]
    for picture, time in zip(canvas, times, strict=True):
        for thing in scene.things:
            left, top = (thing.x + time * thing.dx) * width, (thing.y + time * thing.dy) * height
            cover = cover_of(thing.shape, x - left, y - top, thing.radius * min(width, height))[..., None]
            picture += cover * (COLOURS[thing.colour] - picture)
    return canvas.round().astype(np.uint8)


def cover_of(shape: str, x: Any, y: Any, radius: Any, maths: Any = None) -> Any:
    """How much of each pixel a shape covers, `x` and `y` away from its middle, all in pixels; `maths` is NumPy, or
    torch for its tensors."""
    import numpy as np

    maths = maths or np
    return maths.clip(0.5 - _distance(shape, x, y, radius, maths), 0, 1)


def _distance(shape: str, x: Any, y: Any, r: Any, maths: Any) -> Any:
    """From the edge, negative inside."""
    match shape:
        case "circle":
            return maths.hypot(x, y) - r
        case "square":
            return maths.maximum(abs(x), abs(y)) - 0.88 * r
        case "triangle":
            return maths.maximum(y - 0.9 * r, (2 * abs(x) - (y + 0.9 * r)) / 5**0.5)
        case _:
            wide, high = maths.maximum(abs(x), abs(y) * 3), maths.maximum(abs(x) * 3, abs(y))
            return maths.minimum(wide, high) - r


def _item(item: Item, chance: random.Random, *, alone: bool) -> Item:
    return Item(
        item.shape or chance.choice(SHAPES),
        item.colour or chance.choice(list(COLOURS)),
        item.size or (chance.choice(list(SIZES)) if alone else None),
        item.place or (chance.choice(PLACES) if alone else None),
    )


def _told_apart(wish: Wish, items: Sequence[Item], chance: random.Random) -> tuple[Item, Item]:
    """Two things at opposite sides."""
    first, second = items
    if wish.items[1].colour is None and first.colour == second.colour:
        second = replace(second, colour=chance.choice([colour for colour in COLOURS if colour != first.colour]))
    sides = [(("left", "middle"), ("right", "middle")), (("centre", "top"), ("centre", "bottom"))]
    known = [
        pair for pair in sides if wish.items[0].place in (None, pair[0]) and wish.items[1].place in (None, pair[1])
    ]
    left, right = chance.choice(known or sides[:1])
    return replace(first, place=left), replace(second, place=right)


def _unlike(item: Item, background: str, asked: Item, chance: random.Random) -> Item:
    """No thing has the colour of its background, unless a wish says both."""
    if item.colour != background or asked.colour:
        return item
    return replace(item, colour=chance.choice([colour for colour in COLOURS if colour != background]))


def _things(wish: Wish, chance: random.Random, width: int, height: int) -> list[Thing]:
    count, several = wish.count or 1, (wish.count or 1) > 1
    items = wish.items if len(wish.items) == count else wish.items * count
    radius = chance.uniform(*CROWDED[count]) if several else chance.uniform(*SIZES[wish.items[0].size or "small"])
    spots = [[side * SPREAD[count] for side in _spot(wish, index, item)] for index, item in enumerate(items)]
    return [
        _placed(item, spot, radius, wish.motion, chance, (width, height))
        for item, spot in zip(items, spots, strict=True)
    ]


def _spot(wish: Wish, index: int, item: Item) -> tuple[float, float]:
    """Where the middle of a thing belongs: -1, 0 or 1 along each side, from left to right and top to bottom."""
    count = wish.count or 1
    if count > 1 and len(wish.items) == 1:
        along = 2 * index / (count - 1) - 1
        return (along, 0.0) if wish.line == "row" else (0.0, along)
    column, row = item.place or CENTRE
    return COLUMNS.index(column) - 1.0, ROWS.index(row) - 1.0


def _placed(
    item: Item, spot: Sequence[float], radius: float, motion: str | None, chance: random.Random, size: tuple[int, int]
) -> Thing:
    """The shape wholly inside the picture, in every frame of a clip."""
    way = [TRAVEL * part for part in MOTIONS.get(motion or "still", (0, 0))]
    x, y = (
        0.5 if moves else _inside(0.5 + spread + chance.uniform(-JITTER, JITTER), radius * min(size) / side)
        for spread, side, moves in zip(spot, size, way, strict=True)
    )
    return Thing(item.shape or SHAPES[0], item.colour or "red", x, y, radius, *way)


def _inside(middle: float, radius: float) -> float:
    room = min(radius + MARGIN, 0.5)
    return min(max(middle, room), 1 - room)
