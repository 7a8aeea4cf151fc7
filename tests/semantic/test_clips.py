"""Clips of the video toy move as their prompts say: read off the pixels, held to what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_facts import MEASURED

from bench.frame import psnr
from toys.__main__ import WEIGHTS
from toys.detect import grants, look, motion
from toys.measure import CLIP, STILL, cases, clip, share, wan_engine
from toys.measure_all import LOOKED_AT, goes
from workers.job import Output, Turbo
from workers.making.flaws import find
from workers.tables import load_presets

SAID = MEASURED["clips"]


@pytest.fixture(scope="session")
def wan(tmp_path_factory):
    return wan_engine(WEIGHTS, Path(tmp_path_factory.mktemp("wan")))


def test_things_move_in_their_colours_as_asked_and_not_as_another_prompt_asks(wan):
    asked = cases("motion", SAID["number"])
    clips, ways = [clip(wan, case) for case in asked], [case.wanted.motion for case in asked]
    others = [next(other for other in ways[i:] + ways if other != way) for i, way in enumerate(ways)]
    frames = [(case.wanted, frame) for case, frames in zip(asked, clips, strict=True) for frame in frames[LOOKED_AT]]
    assert {len(frames) for frames in clips} == {81}
    assert np.mean(list(map(goes, ways, clips))) >= SAID["motion"]["least"]
    assert np.mean([motion(frames) == way for frames, way in zip(clips, others, strict=True)]) < SAID["motion"]["least"]
    assert np.mean([grants(wanted, look(frame)) for wanted, frame in frames]) >= SAID["colours"]["least"]


def test_work_that_is_kept_from_step_to_step_moves_no_pixel_far_unless_all_of_it_is_kept(wan):
    (case,) = cases("motion", 1)
    kept = load_presets()["video_fast"].turbo.reuse
    plain, turbo, careless = (
        clip(wan, case, replace(CLIP, turbo=Turbo(on=True, reuse=least))) for least in (0.0, kept, 10.0)
    )
    assert not (turbo == plain).all(), "some of it was kept"
    assert psnr(turbo / 255, plain / 255) >= SAID["reuse"]["least"] > psnr(careless / 255, plain / 255)
    assert goes(case.wanted.motion, turbo)


def test_what_stands_still_is_no_frozen_clip(wan):
    (case,) = cases("still", 1)
    frames = clip(wan, case)
    assert motion(frames) == "still"
    assert find(Output(0, case.seed, frames), CLIP) is None


@pytest.mark.parametrize("question", ["colour", "place"])
def test_stills_show_what_is_asked_and_not_what_another_prompt_asks(wan, question):
    asked = cases(question, MEASURED["number"])
    seen = [look(clip(wan, case, STILL)[0]) for case in asked]
    assert share(asked, seen) >= SAID[question]["least"] > share(asked, seen, shuffled=True)
