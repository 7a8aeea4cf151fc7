"""The gates of `bench.quality` let the plain run pass and notice what takes the meaning away."""

from __future__ import annotations

import pytest

from bench.quality import TABLES, compare, passes


@pytest.mark.parametrize("name", TABLES["candidates"])
def test_gates_tell_harmless_settings_from_faults(sdxl, name):
    assert passes(name, compare(sdxl, TABLES["candidates"][name], number=4))


def test_a_faulty_candidate_that_nobody_planted_is_refused(sdxl):
    deaf = {**TABLES["candidates"]["deaf"], "fault": False}
    assert compare(sdxl, deaf, number=4).failures(TABLES["gates"])
