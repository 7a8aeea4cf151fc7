"""All shares at once, by several processes, and sheets of what was made for a person to look at."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toys.detect import grants, look, motion, path
from toys.measure import (
    CLIP,
    QUESTIONS,
    STILL,
    Case,
    cases,
    clip,
    picture,
    sdxl_engine,
    share,
    wan_engine,
    wan_folder,
)
from toys.world import MOTIONS
from workers.job import Output
from workers.making.flaws import find

if TYPE_CHECKING:
    from toys.measure import Pixels

BACK = 0.012
"""How far a thing that moves one way may seem to go back between two of the frames looked at, as a part of the side."""
LOOKED_AT = slice(None, None, 8)


@dataclass(frozen=True, slots=True)
class Grid:
    """Prompts for each question, made on a device by this many processes; pictures at this guidance."""

    weights: Path
    number: int = 60
    guidance: float = 6.0
    device: str = "cpu"
    processes: int = 1


def measure_all(grid: Grid, sheets: Path | None = None) -> dict[str, float]:
    """Shares by model and question for the toys that are there, as right and as shuffled; `sheets` takes PNG files."""
    from toys.measure_words import measure_words
    from workers.tables import load_models

    found = dict[str, float]()
    if (grid.weights / load_models().sdxl.checkpoint).is_file():
        found |= _pictures("sdxl", grid, _drawn, sheets)
    if wan_folder(grid.weights).is_dir():
        found |= _pictures("wan", grid, _stills, sheets) | _clips(grid, sheets)
    return found | measure_words(grid.weights, grid.number)


def _pictures(
    model: str, grid: Grid, make: Callable[[Grid, Sequence[Case]], list[Any]], sheets: Path | None
) -> dict[str, float]:
    from toys.sheet import write_grid

    asked = {question: cases(question, grid.number) for question in QUESTIONS}
    made = iter(_spread(grid, make, [case for some in asked.values() for case in some]))
    found, shown = dict[str, float](), list[tuple[str, Any]]()
    for question, some in asked.items():
        pictures = [next(made) for _ in some]
        seen = [look(each) for each in pictures]
        found[f"{model} {question}"] = share(some, seen)
        found[f"{model} {question}, shuffled"] = share(some, seen, shuffled=True)
        shown += [(case.prompt, each) for case, each in zip(some[:12], pictures, strict=False)]
    if sheets:
        write_grid(shown, sheets / f"{model}.png")
    return found


def _clips(grid: Grid, sheets: Path | None) -> dict[str, float]:
    """Of clips a quarter as many: the share that goes the way that was asked, and evenly; of things that shall stand
    still; of frames in the colours; and what a worker would refuse to deliver."""
    from toys.sheet import write_strips

    number = max(8, grid.number // 4)
    asked = [*cases("motion", number), *cases("still", number)]
    made = _spread(grid, _films, asked)
    if sheets:
        shown = list(zip((case.prompt for case in asked), made, strict=True))
        write_strips(shown[:10] + shown[-2:], sheets / "clips.png")
    wanted, ways = [case.wanted.motion or "still" for case in asked], [motion(each) for each in made]
    coloured = [
        grants(case.wanted, look(frame)) for case, each in zip(asked, made, strict=True) for frame in each[LOOKED_AT]
    ]
    moving = wanted[:number]
    others = [next(w for w in (*moving[i:], *moving) if w != way) for i, way in enumerate(moving)]
    return {
        "wan motion": _same(moving, ways[:number]),
        "wan motion, shuffled": _same(others, ways[:number]),
        "wan motion, even": sum(map(goes, moving, made[:number])) / number,
        "wan still": _same(wanted[number:], ways[number:]),
        "wan clip colours": sum(coloured) / len(coloured),
        "wan clips refused": sum(find(Output(0, 0, each), CLIP) is not None for each in made) / len(made),
    }


def goes(way: str, frames: Pixels) -> bool:
    """Whether what is seen goes that way in every step and comes somewhere."""
    import numpy as np

    along = path(frames[LOOKED_AT]) @ np.array(MOTIONS[way])
    return bool(not np.isnan(along).any() and (np.diff(along) > -BACK).all() and motion(frames) == way)


def _same(one: Sequence[str], other: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def _spread(grid: Grid, make: Callable[[Grid, Sequence[Case]], list[Any]], asked: Sequence[Case]) -> list[Any]:
    """What is made for each case, in order, by as many processes as there shall be."""
    number = min(grid.processes, len(asked))
    if number < 2:
        return make(grid, asked)
    with ProcessPoolExecutor(number, get_context("spawn")) as pool:
        parts = list(pool.map(partial(make, grid), [asked[i::number] for i in range(number)]))
    return [parts[i % number][i // number] for i in range(len(asked))]


def _drawn(grid: Grid, asked: Sequence[Case]) -> list[Pixels]:
    engine = sdxl_engine(grid.weights, grid.device)
    return [picture(engine, case, guidance=grid.guidance) for case in asked]


def _stills(grid: Grid, asked: Sequence[Case]) -> list[Pixels]:
    with tempfile.TemporaryDirectory() as work:
        engine = wan_engine(grid.weights, Path(work), grid.device)
        return [clip(engine, case, STILL)[0] for case in asked]


def _films(grid: Grid, asked: Sequence[Case]) -> list[Pixels]:
    with tempfile.TemporaryDirectory() as work:
        engine = wan_engine(grid.weights, Path(work), grid.device)
        return [clip(engine, case) for case in asked]
