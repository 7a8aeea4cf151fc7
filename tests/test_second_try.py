"""What comes out wrong is made once more in another way, never in the same, and never a third time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from test_prompt import SHIPPED, WAN_VIDEO
from wan_support import PICTURE

from workers.claim import Claim
from workers.delivery.parcel import Parcel
from workers.errors import Rejected
from workers.job import Job, Output, Rating, SamplingParams
from workers.making import flaws, second_try
from workers.making.maker import Maker
from workers.making.second_try import APART, FAILED, Made
from workers.prompting.prompt import compose
from workers.resolve import stable_size
from workers.tables import load_presets
from workers.testing.fakes import FakeEngine
from workers.watch import Watch

WIDE = replace(PICTURE, width=112, height=64, seeds=(5, 6, 7))


class Engine:
    """Paints black what `fails`, else a ramp. Remembers what it was asked for."""

    def __init__(self, fails: Callable[[SamplingParams, int], bool]) -> None:
        self._fails = fails
        self.asked: list[SamplingParams] = []

    def __call__(self, params: SamplingParams) -> list[Output]:
        self.asked.append(params)
        ramp = np.broadcast_to(np.arange(params.width, dtype=np.uint8)[:, None], (params.height, params.width, 3))
        pictures = [np.zeros_like(ramp) if self._fails(params, seed) else ramp.copy() for seed in params.seeds]
        return [Output(i, s, p[None]) for i, (s, p) in enumerate(zip(params.seeds, pictures, strict=True))]


def make(engine: Any, stable: tuple[int, int] | None = None, seeds_are_free: bool = True) -> Made:
    return second_try.make(engine, flaws.find, WIDE, stable=stable, seeds_are_free=seeds_are_free)


def test_what_is_good_is_made_once() -> None:
    engine = Engine(lambda *_: False)
    made = make(engine, stable=(80, 64))
    assert (made.params, made.notes, len(engine.asked)) == (WIDE, {}, 1)


def test_a_size_that_comes_out_wrong_is_made_once_more_at_the_stable_one() -> None:
    engine = Engine(lambda params, _: params.width == 112)
    made = make(engine, stable=(80, 64), seeds_are_free=False)
    assert made.params == replace(WIDE, width=80)
    assert [output.frames.shape for output in made.outputs] == [(1, 64, 80, 3)] * 3
    assert made.notes == {"fallback": {"reason": "black", "size": ["112*64", "80*64"]}}
    assert len(engine.asked) == 2


def test_a_seed_that_nobody_asked_for_gives_way_to_another_and_the_good_pictures_stay() -> None:
    engine = Engine(lambda _, seed: seed == 6)
    made = make(engine)
    assert made.params.seeds == (5, 6 + APART, 7)
    assert [(output.index, output.seed) for output in made.outputs] == [(0, 5), (1, 6 + APART), (2, 7)]
    assert all(output.frames.any() for output in made.outputs)
    assert made.notes == {"fallback": {"reason": "black", "seeds": [[6, 6 + APART]]}}
    assert [asked.seeds for asked in engine.asked] == [(5, 6, 7), (6 + APART,)]


def test_a_seed_that_was_asked_for_is_kept_and_the_job_fails_with_a_sentence() -> None:
    engine = Engine(lambda _, seed: seed == 6)
    with pytest.raises(Rejected) as caught:
        make(engine, seeds_are_free=False)
    assert (caught.value.sentence, caught.value.code, len(engine.asked)) == (FAILED, "failed", 1)


@pytest.mark.parametrize("stable", [None, (80, 64)])
def test_there_is_no_third_try(stable: tuple[int, int] | None) -> None:
    engine = Engine(lambda *_: True)
    with pytest.raises(Rejected, match="came out wrong"):
        make(engine, stable=stable)
    assert len(engine.asked) == 2


def test_values_that_are_no_numbers_are_a_reason_too() -> None:
    good = Engine(lambda *_: False)

    def engine(params: SamplingParams) -> list[Output]:
        if params.width == 112:
            raise FloatingPointError("The denoiser gave values that are not numbers.")
        return good(params)

    assert make(engine, stable=(80, 64)).notes["fallback"]["reason"] == "no numbers"
    with pytest.raises(Rejected):
        make(engine)


def test_the_presets_name_the_wide_size_of_the_video_model_and_its_stable_one() -> None:
    presets = load_presets()
    assert all(preset.stable == (((832, 480), (640, 480)),) for preset in presets.values() if preset.kind == "wan")
    assert all(preset.stable == () for preset in presets.values() if preset.kind == "sdxl")
    preset, params = presets["video_fast"], replace(PICTURE, width=832, height=480)
    assert stable_size(preset, params, 1.0) == (640, 480)
    assert stable_size(preset, replace(params, width=480, height=832), 1.0) is None
    assert stable_size(preset, replace(params, width=112, height=64), 64 / 480) == (80, 64)
    assert stable_size(WAN_VIDEO, params, 1.0) is None


class WideIsBlack(FakeEngine):
    def generate(self, params: SamplingParams, watch: Watch) -> list[Output]:
        outputs = super().generate(params, watch)
        black = params.width > params.height and params.width != 640
        return [replace(output, frames=output.frames * 0) if black else output for output in outputs]


class Open:
    """A gate that lets everything through."""

    def check(self) -> None: ...

    def admit(self, job: Job, also: Any = ()) -> Rating:
        return "sfw"

    def admitted(self, job: Job, rating: Rating, params: SamplingParams) -> None: ...

    def admit_references(self, job: Job, rating: Rating, pictures: Any) -> None: ...


def parcel(size: str, **config: Any) -> Parcel:
    presets, wishes = load_presets(), {"size": size, "frame_num": 5, **config}
    maker = Maker(
        kind="wan",
        worker="wan@here",
        presets=presets,
        engine=WideIsBlack(steps=1),
        enhancer=None,
        gate=Open(),
        compose=partial(compose, rules=SHIPPED),
        inspect=flaws.find,
    )
    asked = Job(id="1", type="video_fast", user_id="2", prompt="a lighthouse at dusk", config=wishes)
    return maker.make(Claim("token", "", 1, 0, 1, None), asked, presets["video_fast"], Watch())


def test_the_callback_says_what_the_user_got_instead() -> None:
    made = parcel("832*480", seed=9)
    assert made.metadata["fallback"] == {"reason": "black", "size": ["832*480", "640*480"]}
    assert (made.metadata["width"], made.metadata["height"], made.metadata["seed"]) == (640, 480, 9)
    assert made.outputs[0].frames.shape == (5, 480, 640, 3)
    assert made.params.width == 640


def test_a_job_without_a_flaw_says_nothing_of_one() -> None:
    assert "fallback" not in parcel("480*832").metadata
