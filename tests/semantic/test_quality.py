"""The gates of `bench.quality` let the plain run pass and notice what takes the meaning away; of clips, test_clips."""

from __future__ import annotations

import pytest

from bench.quality import PICTURES, TABLES, asked_of, compare, passes


@pytest.mark.parametrize("name", [name for name, candidate in TABLES["candidates"].items() if "clips" not in candidate])
def test_gates_tell_harmless_settings_from_faults(sdxl, name):
    number = 12 if name == "guided" else 4  # of eight pictures one alone is more than its gate allows
    assert passes(name, compare(sdxl, TABLES["candidates"][name], asked_of(PICTURES, number)))


def test_a_faulty_candidate_that_nobody_planted_is_refused(sdxl):
    deaf = {**TABLES["candidates"]["deaf"], "fault": False}
    assert compare(sdxl, deaf, asked_of(PICTURES, 4)).failures(TABLES["gates"])
