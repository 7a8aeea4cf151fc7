"""What producers put on the queue, and what becomes of it. `payloads/` holds one real-shaped message per shape."""

import json
from pathlib import Path

import pytest

from workers.errors import Rejected
from workers.payload import find_id, parse

PAYLOADS = Path(__file__).parent / "payloads"
JOB = "b91f6c1e-3c5d-4f67-9a1b-2f0c5d7e8a90"
USER = "11111111-2222-4333-8444-555555555555"


def message(name: str = "july_sdxl") -> str:
    return (PAYLOADS / f"{name}.json").read_text()


def changed(**values: object) -> str:
    return json.dumps(json.loads(message()) | values)


@pytest.mark.parametrize("path", sorted(PAYLOADS.glob("*.json")), ids=lambda path: path.stem)
def test_every_shape_that_producers_use_becomes_a_job(path):
    job = parse(path.read_text())
    assert (job.id, job.user_id) == (JOB, USER)
    assert job.prompt
    assert find_id(path.read_text()) == JOB


def test_camel_case_is_spelled_our_way():
    job = parse(message("camel_case"))
    assert (job.type, job.negative_prompt) == ("image_fast", "blurry")


def test_our_spelling_wins_where_a_message_has_both():
    assert parse(changed(jobType="video_fast")).type == "sdxl_image_fast"


def test_an_empty_prompt_is_legal_and_so_is_none():
    assert parse(changed(prompt="")).prompt == ""
    payload = json.loads(message())
    del payload["prompt"], payload["config"], payload["metadata"]
    assert parse(json.dumps(payload)).prompt == ""


def test_compatibility_forms_and_control_characters_become_plain_text():
    assert parse(changed(prompt="a ﬁne\nred\u0007 bicycle")).prompt == "a fine red bicycle"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"id": None}, "id"),
        ({"id": "../../etc"}, "id"),
        ({"id": JOB.upper()}, "id"),
        ({"user_id": "1"}, "user_id"),
        ({"type": None}, "type"),
        ({"type": ["sdxl_image_fast"]}, "type"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x" * 4_001}, "prompt"),
        ({"prompt": "x" * 100_000}, "prompt"),
        ({"negative_prompt": "x" * 2_001}, "negative_prompt"),
        ({"config": "none"}, "config"),
        ({"metadata": [1, 2]}, "metadata"),
        ({"metadata": {"seed": 10**400}}, "payload"),
        ({"prompt": "\ud800"}, "payload"),
    ],
)
def test_what_is_wrong_is_said_by_field(values, field):
    with pytest.raises(Rejected) as refusal:
        parse(changed(**values))
    assert refusal.value.field == field
    assert refusal.value.sentence.endswith(".")


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "nonsense",
        "null",
        "[]",
        "[1, 2]",
        '{"id": NaN}',
        '{"x": Infinity}',
        '{"x": ' + "9" * 5_000 + "}",
        "[" * 2_000 + "]" * 2_000,
        '{"data": ' * 40 + "1" + "}" * 40,
        '"' + "x" * 300_000 + '"',
        '{"x": 1e999}',
    ],
    ids=lambda raw: raw[:12],
)
def test_what_cannot_be_read_is_refused_without_a_crash(raw):
    with pytest.raises(Rejected) as refusal:
        parse(raw)
    assert refusal.value.code == "unreadable"


def test_the_id_of_a_broken_message_is_still_found():
    assert find_id(message()[:-40]) == JOB
    assert find_id(message("newest_in_list")[:-9]) == JOB
    assert find_id('{"id": "nobody"}') is None


def test_an_id_in_another_place_is_another_jobs():
    assert find_id(changed(id=None, metadata={"id": JOB})) is None
    assert find_id(changed(id="nobody", config={"job_id": JOB})) is None


@pytest.mark.parametrize(
    ("values", "rating"),
    [
        ({}, None),
        ({"rating": "adult"}, "adult"),
        ({"content_type": "nsfw"}, "adult"),
        ({"content_type": "image"}, None),
        ({"metadata": {"rating": "adult"}}, None),
        ({"rating": "adult", "metadata": {"rating": "sfw"}}, "sfw"),
    ],
)
def test_a_client_can_only_make_its_rating_stricter(values, rating):
    assert parse(changed(**values)).rating == rating


@pytest.mark.parametrize(
    "values",
    [
        {"config": {"reference_image_url": "https://a.example/x.png"}},
        {"metadata": {"reference_image_url": "https://a.example/x.png"}},
        {"config": {"first_frame": "https://a.example/x.png"}},
        {"config": {"image": {"url": "https://a.example/x.png"}}},
        {"reference_image_url": "https://a.example/x.png"},
    ],
)
def test_a_reference_image_is_never_overlooked(values):
    assert len(parse(changed(**values)).references) == 1
