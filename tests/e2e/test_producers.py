"""Whoever queued a job, in whatever form and through whichever client: it is made."""

from __future__ import annotations

import pytest
from messages import FORMS, PRESETS, TESTS
from runs import Run

from workers.payload import parse

pytestmark = pytest.mark.ring2


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_job_is_made_as_it_was_meant(july: Run, name: str):
    meant = parse((TESTS / "payloads" / f"{FORMS[name][0]}.json").read_text())
    body, label = july.body(f"form {name}"), f"form {name}"
    assert body["status"] == "completed"
    assert body["metadata"]["job_type"] == meant.type
    assert body["metadata"]["original_prompt"] == meant.prompt
    assert meant.negative_prompt in body["metadata"]["negative_prompt"]
    assert [name.split("/")[0] for name in july.files(label)] == [meant.type]
    assert meant.type in PRESETS


def test_the_newest_form_may_choose_size_steps_guidance_and_seed_0(july: Run):
    said = july.body("form the newest in a list by curl")["metadata"]
    assert (said["steps"], said["guidance_scale"], said["seed"]) == (30, 7.0, 0)
    assert (said["width"], said["height"]) == (64, 32)


def test_what_july_says_of_the_video_model_does_not_reach_sdxl(july: Run):
    said = july.body("form July's by curl")["metadata"]
    assert (said["steps"], said["guidance_scale"], said["width"]) == (15, 6.0, 64)


@pytest.mark.parametrize("run", ["july", "newest"])
def test_who_came_first_is_served_first_at_whichever_end_producers_push(run: str, request: pytest.FixtureRequest):
    """July pushes at the left and its workers take from the right; the newest deployment does the opposite."""
    found: Run = request.getfixturevalue(run)
    claimed = [event["job"] for event in found.system.events("claimed")]
    asked = [job_id for label, job_id in found.jobs.items() if label.startswith("in order")]
    assert [job_id for job_id in claimed if job_id in asked] == asked
