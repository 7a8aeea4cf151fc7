"""Clips of the video toy move as their prompts say: read off the pixels, held to what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_facts import MEASURED

from bench.quality import TABLES, compare, passes
from toys.__main__ import WEIGHTS
from toys.detect import grants, look, motion
from toys.measure import CLIP, STILL, cases, clip, share, wan_engine
from toys.measure_all import LOOKED_AT, goes
from workers.engines.wan.curve import measuring
from workers.job import Output
from workers.making.flaws import find

SAID = MEASURED["clips"]


@pytest.fixture(scope="session")
def wan(tmp_path_factory):
    return wan_engine(WEIGHTS, Path(tmp_path_factory.mktemp("wan")))


@pytest.fixture(scope="session")
def moving(wan):
    """Clips, of which the first is what the model's magnitudes are known by."""
    first, *others = cases("motion", SAID["number"])
    with measuring(wan._pipeline.transformer) as measured:
        known = clip(wan, first)
    wan._denoiser.follow(measured.curve())
    return [known, *(clip(wan, case) for case in others)]


def test_things_move_in_their_colours_as_asked_and_not_as_another_prompt_asks(moving):
    asked = cases("motion", SAID["number"])
    clips, ways = moving, [case.wanted.motion for case in asked]
    others = [next(other for other in ways[i:] + ways if other != way) for i, way in enumerate(ways)]
    frames = [(case.wanted, frame) for case, frames in zip(asked, clips, strict=True) for frame in frames[LOOKED_AT]]
    assert {len(frames) for frames in clips} == {81}
    assert np.mean(list(map(goes, ways, clips))) >= SAID["motion"]["least"]
    assert np.mean([motion(frames) == way for frames, way in zip(clips, others, strict=True)]) < SAID["motion"]["least"]
    assert np.mean([grants(wanted, look(frame)) for wanted, frame in frames]) >= SAID["colours"]["least"]


@pytest.mark.parametrize("name", [name for name, candidate in TABLES["candidates"].items() if "clips" in candidate])
def test_work_that_is_kept_from_step_to_step_moves_no_pixel_far_unless_all_of_it_is_kept(wan, moving, name):
    candidate = TABLES["candidates"][name]
    verdict = compare(wan, candidate, cases("motion", SAID["number"])[:1], moving[:1])
    assert passes(name, verdict)
    assert verdict.psnr < 90, "some of it was kept"


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
