"""How well a toy follows its prompt: a grid of prompts, made by the true engines, read by the detector."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toys.detect import Seen, grants
from toys.sizes import SDXL_SIDE, WAN_FRAMES, WAN_SIZE
from toys.words import sentence
from toys.world import COLOURS, MOTIONS, SHAPES, Item, Place, Wish
from workers.job import SamplingParams
from workers.watch import Watch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Picture = Callable[["Case"], Pixels]

SIDES: tuple[Place, ...] = (("left", "middle"), ("right", "middle"), ("centre", "top"), ("centre", "bottom"))
PICTURE = SamplingParams(
    type="sdxl_image_fast",
    media="image",
    width=SDXL_SIDE,
    height=SDXL_SIDE,
    frames=1,
    steps=15,
    guidance=6.0,
    seeds=(0,),
    solver="unipc",
    shift=None,
    quality="fast",
)
CLIP = replace(
    PICTURE,
    type="video_fast",
    media="video",
    width=WAN_SIZE[0],
    height=WAN_SIZE[1],
    frames=WAN_FRAMES,
    steps=25,
    guidance=6.5,
    shift=5.0,
)
STILL = replace(CLIP, type="image7b_fast_enhanced", media="image", frames=1)


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked, and what of it counts."""

    prompt: str
    wanted: Wish
    seed: int


def _one(item: Item, wanted: Item, background: str | None = None) -> tuple[Wish, Wish]:
    return Wish((item,), count=1, background=background), Wish((wanted,), background=background)


def _colour(chance: random.Random) -> tuple[Wish, Wish]:
    colour, background = chance.sample(list(COLOURS), 2)
    return _one(Item(chance.choice(SHAPES), colour), Item(colour=colour), background)


def _shape(chance: random.Random) -> tuple[Wish, Wish]:
    shape = chance.choice(SHAPES)
    return _one(Item(shape, size="big"), Item(shape))


def _place(chance: random.Random) -> tuple[Wish, Wish]:
    place = chance.choice(SIDES)
    return _one(Item(chance.choice(SHAPES), place=place), Item(place=place))


def _size(chance: random.Random) -> tuple[Wish, Wish]:
    size = chance.choice(("small", "big"))
    return _one(Item(chance.choice(SHAPES), size=size), Item(size=size))


def _count(chance: random.Random) -> tuple[Wish, Wish]:
    count = chance.choice((1, 2, 3))
    return Wish((Item(chance.choice(SHAPES)),), count=count), Wish(count=count)


def _motion(chance: random.Random, ways: Sequence[str] = tuple(MOTIONS)) -> tuple[Wish, Wish]:
    way = chance.choice(ways)
    colour, background = chance.sample(list(COLOURS), 2)
    asked = Wish((Item(chance.choice(SHAPES), colour),), count=1, background=background, motion=way)
    return asked, Wish((Item(colour=colour),), background=background, motion=way)


def _still(chance: random.Random) -> tuple[Wish, Wish]:
    return _motion(chance, ("still",))


QUESTIONS: Mapping[str, Callable[[random.Random], tuple[Wish, Wish]]] = {
    "colour": _colour,
    "shape": _shape,
    "place": _place,
    "size": _size,
    "count": _count,
}


def cases(question: str, number: int, seed: int = 0) -> list[Case]:
    """The same for the same seed; seeds of the pictures follow it too. Beside `QUESTIONS` there are "motion" and
    "still", of clips."""
    chance, ask = random.Random(f"{question} {seed}"), {**QUESTIONS, "motion": _motion, "still": _still}[question]
    asked = [ask(chance) for _ in range(number)]
    return [Case(sentence(wish, chance), wanted, chance.randrange(2**32)) for wish, wanted in asked]


def share(asked: Sequence[Case], seen: Sequence[Seen], *, shuffled: bool = False) -> float:
    """The part of the pictures that grant what counts; `shuffled` reads each by the next wish that is another one."""
    wanted = [case.wanted for case in asked]
    if shuffled:
        wanted = [next(w for w in (*wanted[i:], *wanted) if w != wish) for i, wish in enumerate(wanted)]
    return sum(map(grants, wanted, seen)) / len(seen)


def picture(engine: Any, case: Case, **changes: Any) -> Pixels:
    """(height, width, 3) by one of the engines, as a job of a single picture."""
    params = replace(PICTURE, prompt=case.prompt, seeds=(case.seed,))
    frames: Pixels = engine.generate(replace(params, **changes), Watch())[0].frames
    first: Pixels = frames[0]
    return first


def clip(engine: Any, case: Case, like: SamplingParams = CLIP, **changes: Any) -> Pixels:
    """(frames, height, width, 3) by the video engine: a clip, or a still where it shall be like one."""
    params = replace(like, prompt=case.prompt, seeds=(case.seed,))
    frames: Pixels = engine.generate(replace(params, **changes), Watch())[0].frames
    return frames


def sdxl_engine(weights: Path, device: str = "cpu") -> Any:
    """The picture engine on the toy in `weights`, a MODEL_ROOT."""
    from workers.engines.sdxl import SdxlEngine
    from workers.tables import load_models

    return _loaded(SdxlEngine(weights / load_models().sdxl.checkpoint, device=device))


def wan_engine(weights: Path, work: Path, device: str = "cpu") -> Any:
    """The video engine; `work` takes the converted layout."""
    from workers.engines.wan import WanEngine
    from workers.tables import load_models

    converted = work / load_models().wan.converted
    return _loaded(WanEngine(wan_folder(weights), device=device, converted=converted))


def wan_folder(weights: Path) -> Path:
    from workers.tables import load_models

    return weights / load_models().wan.weights


def _loaded(engine: Any) -> Any:
    engine.load(Watch())
    return engine
