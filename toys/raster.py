"""The world painted by torch, hundreds of pictures at once: what `world.draw` paints one by one, but for rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toys.world import COLOURS, SHAPES, Scene, Thing, cover_of

if TYPE_CHECKING:
    from torch import Tensor

MOST = 3
"""Things in a scene."""
THING = len(SHAPES) + 3 + 5
"""Numbers of a thing: which shape it has, its colour, then where, how far it moves and how large."""


def table(scenes: Sequence[Scene]) -> Tensor:
    """(scenes, numbers): the colour of the background, then the things."""
    import torch

    return torch.tensor([_row(scene) for scene in scenes])


def paint(rows: Tensor, size: tuple[int, int], times: Tensor) -> Tensor:
    """(scenes, 3, frames, height, width) from -1 to 1; `times` are those of the frames, from -0.5 to 0.5."""
    import torch

    width, height = size
    xs, ys = (torch.arange(side, device=rows.device) + 0.5 for side in size)
    canvas = rows[:, :3, None, None, None].expand(-1, -1, len(times), height, width)
    for thing in rows[:, 3:].chunk(MOST, 1):
        shape, colour, place, way, radius = thing.split_with_sizes((len(SHAPES), 3, 2, 2, 1), 1)
        across, down = (place[:, :, None] + times * way[:, :, None]).unbind(1)
        x = xs - across[:, :, None, None] * width
        y = ys[:, None] - down[:, :, None, None] * height
        large = radius[:, :, None, None] * min(size)
        covers = [cover_of(name, x, y, large, torch) for name in SHAPES]
        cover = sum(has.view(-1, 1, 1, 1) * part for has, part in zip(shape.unbind(1), covers, strict=True))
        canvas = torch.lerp(canvas, colour[:, :, None, None, None], cover[:, None])
    return canvas.round() / 127.5 - 1


def _row(scene: Scene) -> list[float]:
    things = [number for thing in scene.things for number in _numbers(thing)]
    return [*COLOURS[scene.background], *things, *[0.0] * (THING * MOST - len(things))]


def _numbers(thing: Thing) -> list[float]:
    has = [float(thing.shape == name) for name in SHAPES]
    return [*has, *COLOURS[thing.colour], thing.x, thing.y, thing.dx, thing.dy, thing.radius]
