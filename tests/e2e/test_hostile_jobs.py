"""Every message of `payloads_hostile/` ends as it should, with a sentence for its user, and the workers go on."""

from __future__ import annotations

from typing import Any

import pytest
from messages import hostile
from runs import Run

from workers.claim import DeadEntry
from workers.local.stack import TOKEN
from workers.queue.upstash import UpstashQueue

pytestmark = pytest.mark.ring2

UNREADABLE = "The job could not be read."
NO_ID = "id: The job's id or user is missing or not valid."
COUNT = "The number of images must be 1, 3 or 6."

MADE: dict[str, dict[str, list[Any]]] = {
    "another_bucket": {},
    "empty_prompt": {},
    "nulls_everywhere": {},
    "prompt_that_forges_a_log_line": {},
    "rated_adult": {},
    "settings_in_words": {},
    "size_in_words": {"size": ["0*0", "480*832"]},
    "size_of_a_wall": {"size": ["100000*100000", "480*832"]},
    "size_of_nothing": {"size": ["0*0", "480*832"]},
    "steps_without_end": {"steps": [1e6, 60], "guidance": [-3.0, 1.0], "shift": [900.0, 12.0]},
    "without_a_prompt": {},
}
"""Made in spite of itself -> which of its wishes were moved, from where to where."""

REFUSED = {
    "a_million_images": COUNT,
    "config_that_is_a_list": "The job's settings could not be read.",
    "images_in_words": COUNT,
    "minus_one_image": COUNT,
    "negative_prompt_of_100_kb": "The negative prompt is longer than 2,000 characters.",
    "prompt_of_100_kb": "The prompt is longer than 4,000 characters.",
    "prompt_that_is_a_number": "The prompt is missing or not text.",
    "reference_image": "The reference image must lie in your own folder of this service.",
    "seven_images": COUNT,
    "unknown_type": "This job type is not known.",
    "user_that_climbs": "The job's id or user is missing or not valid.",
    "without_a_type": "The job type is missing or not text.",
    "without_a_user": "The job's id or user is missing or not valid.",
    "wrong_kind": "This job type is not made by this queue's workers.",
}
"""Failed -> what its user reads."""

KEPT = {
    "cut_off": UNREADABLE,
    "infinity": UNREADABLE,
    "latin_1": "The job contains characters that are not valid text.",
    "lone_surrogate": "The job contains characters that are not valid text.",
    "nan": UNREADABLE,
    "nested_2000_deep": UNREADABLE,
    "number_of_5000_digits": UNREADABLE,
    "number_too_large": "The job contains a number that is out of range.",
    "two_jobs_in_a_list": UNREADABLE,
    "wrapped_40_times": UNREADABLE,
}
"""Failed as the above, and kept in the dead list for an operator, because it cannot be read."""

NOBODYS = {
    "id_that_climbs": NO_ID,
    "no_json": f"payload: {UNREADABLE}",
    "nothing_at_all": f"payload: {UNREADABLE}",
    "without_an_id": NO_ID,
}
"""Kept in the dead list with this reason; there is nobody to tell."""


@pytest.fixture(scope="module")
def dead(july: Run) -> dict[str, DeadEntry]:
    """Message -> its entry in the dead lists."""
    found = {}
    for name in ("sdxl_queue", "wan_queue"):
        queue = UpstashQueue(name, july.stack.gateway.url, TOKEN, lease=45.0)
        found |= {entry.body: entry for entry in queue.dead()}
        queue.close()
    return found


def text_of(name: str) -> str:
    return hostile()[name].decode(errors="surrogateescape")


def test_every_message_is_in_one_of_the_tables():
    assert sorted([*MADE, *REFUSED, *KEPT, *NOBODYS]) == sorted(hostile())


@pytest.mark.parametrize("name", MADE)
def test_what_can_be_made_is_made_and_moved_wishes_are_told(july: Run, name: str):
    body = july.body(f"hostile {name}")
    assert body["status"] == "completed"
    assert body["metadata"]["adjusted"] == MADE[name]
    assert [file.split("/")[0] for file in july.files(f"hostile {name}")] == [body["metadata"]["job_type"]]


def test_where_adult_work_is_allowed_it_is_refused_as_long_as_nothing_can_judge_it(newest: Run):
    (only,) = newest.callbacks("rated adult")
    assert (only.status, only.body["errorMessage"]) == ("failed", "Adult content is not available.")


@pytest.mark.parametrize("name", [*REFUSED, *KEPT])
def test_what_cannot_be_made_fails_with_a_sentence_for_its_user(july: Run, name: str):
    row = july.row(f"hostile {name}")
    assert (row["status"], row["error_message"]) == ("failed", (REFUSED | KEPT)[name])
    assert not july.files(f"hostile {name}")


@pytest.mark.parametrize("name", [*KEPT, *NOBODYS])
def test_what_cannot_be_read_is_kept_as_it_came(dead: dict[str, DeadEntry], name: str):
    assert (KEPT | NOBODYS)[name] in dead[text_of(name)].reason


def test_nothing_else_is_in_the_dead_list(dead: dict[str, DeadEntry]):
    assert len(dead) == len(KEPT) + len(NOBODYS)


def test_nobody_hears_of_a_job_whose_message_has_no_id(july: Run):
    known = {row["id"] for row in july.stack.jobs()}
    assert {seen.job_id for seen in july.stack.double.callbacks()} <= known
    assert not [name for name in NOBODYS if july.jobs[f"hostile {name}"]]


def test_the_workers_go_on(july: Run):
    assert july.row("after all that")["status"] == "completed"
    assert len(july.system.events("worker started")) == 2
    assert {event["code"] for event in july.system.events("worker ended")} == {0}
    assert not july.system.events("job failed")
