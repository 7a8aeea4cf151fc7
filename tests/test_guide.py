"""What a payload wants done with its references: wishes within bounds, contradictions refused by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.test_payload import JOB
from workers.errors import Rejected
from workers.job import Picture
from workers.payload import parse
from workers.references.guide import account, settled, skipped
from workers.resolve import resolve
from workers.tables import load_presets

PRESETS = load_presets()
USER = "11111111-2222-4333-8444-555555555555"
CHARACTER = "cccccccc-2222-4333-8444-555555555555"
ONE, TWO = f"{USER}/one.png", f"{USER}/two.png"


def params(job_type: str = "sdxl_image_fast", config: dict[str, Any] | None = None, **payload: Any):
    job = {"id": JOB, "type": job_type, "user_id": USER, "prompt": "a red bicycle", "config": config or {}}
    return resolve(parse(json.dumps(job | payload)), PRESETS[job_type])


def guide(job_type: str = "sdxl_image_fast", **config: Any):
    return params(job_type, config).guide


def picture(frames: int = 1) -> Picture:
    return Picture((2, 2), bytes(12 * frames), frames, "f" * 64)


def test_without_a_reference_there_is_nothing_to_follow():
    assert guide() is None
    assert guide(denoise_strength=0.3, reference_strength=0.7, exact_copy_mode=True) is None


@pytest.mark.parametrize("key", ["reference_image_url", "reference_image", "reference_url", "image"])
@pytest.mark.parametrize("place", ["config", "metadata", "top"])
def test_a_reference_is_found_wherever_a_producer_puts_it(key, place):
    where = {key: ONE} if place == "top" else {place: {key: ONE}}
    assert params(**where).guide.use == "start"


def test_july_says_true_and_gives_the_address_beside_it():
    metadata = {"reference_image": True, "reference_url": ONE, "reference_type": "composition"}
    assert params(metadata=metadata).guide.use == "start"


@pytest.mark.parametrize(
    ("wishes", "change"),
    [
        ({}, 0.5),
        ({"denoise_strength": 0.2}, 0.2),
        ({"reference_strength": 0.85}, 0.15),
        ({"denoise_strength": 0}, 0.0),
        ({"denoise_strength": 1}, 1.0),
        ({"denoise_strength": 0.3, "reference_strength": 0.7}, 0.3),
    ],
)
def test_strength_says_how_much_is_kept_and_denoising_how_much_is_changed(wishes, change):
    asked = params(config={"image": ONE, **wishes})
    assert asked.guide.change == pytest.approx(change)
    assert not asked.adjusted


@pytest.mark.parametrize(
    ("wishes", "moved"),
    [
        ({"denoise_strength": 7}, {"denoise_strength": [7, 1.0]}),
        ({"denoise_strength": -0.1}, {"denoise_strength": [-0.1, 0.0]}),
        ({"reference_strength": 1.5}, {"reference_strength": [1.5, 1.0]}),
        ({"denoise_strength": 0.3, "reference_strength": 0.9}, {"reference_strength": [0.9, 0.7]}),
        ({"exact_copy_mode": True}, {"denoise_strength": [0.5, 0.05]}),
        ({"exact_copy_mode": True, "reference_type": "style"}, {"reference_type": ["style", "composition"]}),
        ({"pipeline": "magic"}, {"pipeline": ["magic", "img2img"]}),
    ],
)
def test_what_is_out_of_bounds_is_moved_and_reported(wishes, moved):
    adjusted = params(config={"image": ONE, **wishes}).adjusted
    assert moved.items() <= adjusted.items()


@pytest.mark.parametrize(
    ("wishes", "field"),
    [
        ({"image": ONE, "denoise_strength": "0.5"}, "denoise_strength"),
        ({"image": ONE, "reference_strength": True}, "reference_strength"),
        ({"image": ONE, "reference_strength": [1]}, "reference_strength"),
        ({"image": ONE, "reference_type": "vibe"}, "reference_type"),
        ({"image": ONE, "reference_type": {"style": 1}}, "reference_type"),
        ({"image": ONE, "pipeline": "txt2img"}, "pipeline"),
        ({"pipeline": "img2img"}, "pipeline"),
        ({"image": ONE, "reference_image_url": TWO}, "image"),
        ({"first_frame": ONE}, "first_frame"),
        ({"image": ONE, "last_frame": TWO}, "last_frame"),
    ],
)
def test_a_contradiction_is_refused_with_the_field_and_a_sentence(wishes, field):
    with pytest.raises(Rejected) as refused:
        params(config=wishes)
    assert refused.value.field == field
    assert refused.value.sentence.endswith(".")


@pytest.mark.parametrize("value", [5, 0.5, ["a.png"], {"url": "a.png"}])
def test_what_is_no_address_is_a_reference_all_the_same_which_cannot_be_had(value):
    (reference,) = parse_references(config={"reference_image_url": value})
    assert reference.url == ""


def test_the_same_object_signed_twice_is_one_reference():
    url = "https://p.supabase.co/storage/v1/object/sign/reference_images/u/a.png?token="
    assert len(parse_references(config={"image": url + "a"}, metadata={"reference_image_url": url + "b"})) == 1


def parse_references(**payload: Any):
    return parse(json.dumps({"id": JOB, "type": "sdxl_image_fast", "user_id": USER, **payload})).references


def test_a_copy_is_close_unguided_and_says_so():
    asked = params(config={"image": ONE, "exact_copy_mode": True, "denoise_strength": 0.02})
    assert (asked.guide.copy, asked.guide.change, asked.guidance) == (True, 0.02, 1.0)


@pytest.mark.parametrize(("kind", "use"), [("style", "style"), ("character", "character"), ("composition", "start")])
def test_sdxl_takes_three_types_of_reference(kind, use):
    assert guide(image=ONE, reference_type=kind).use == use


def test_the_weight_of_a_character_is_the_reference_strength():
    assert guide(image=ONE, reference_type="character", reference_strength=0.8).weight == 0.8
    assert guide(image=ONE, reference_type="character", denoise_strength=0.3).weight == pytest.approx(0.7)


def test_a_remembered_character_needs_no_picture_but_has_to_be_asked_for():
    assert guide_of_character(reference_type="character").character == f"{USER}/{CHARACTER}"
    assert guide_of_character() is None


def guide_of_character(**config: Any):
    return params(config=config, character_id=CHARACTER).guide


def test_a_characters_id_that_is_none_becomes_no_path():
    with pytest.raises(Rejected) as refused:
        params(config={"image": ONE, "reference_type": "character"}, character_id="../../etc")
    assert refused.value.field == "character_id"


def test_the_video_model_takes_pictures_as_beginnings_whatever_type_is_asked_for():
    asked = params("image_fast", {"image": ONE, "reference_type": "style"})
    assert asked.guide.use == "start"
    assert asked.adjusted["reference_type"] == ["style", "composition"]


def test_a_type_without_a_reference_is_reported():
    assert params(config={"reference_type": "style"}).adjusted["reference_type"] == ["style", None]


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({"first_frame": ONE}, "start"),
        ({"last_frame": ONE}, "end"),
        ({"first_frame": ONE, "last_frame": TWO}, "both"),
        ({"start_reference_url": ONE, "end_reference_url": TWO}, "both"),
    ],
)
def test_videos_have_a_first_and_a_last_frame(config, mode):
    asked = params("video_fast", config)
    assert asked.guide.use == "frames"
    made = settled(asked, {role: picture() for role in roles(config)})
    assert account(made.guide, "video")["reference_mode"] == mode


def roles(config: dict[str, str]) -> set[str]:
    names = {"start_reference_url": "first_frame", "end_reference_url": "last_frame"}
    return {names.get(key, key) for key in config}


def test_a_video_begins_from_a_clip_but_is_shown_a_picture():
    asked = params("video_fast", {"image": ONE})
    assert settled(asked, {"reference_image_url": picture(81)}).guide.use == "start"
    assert settled(asked, {"reference_image_url": picture()}).guide.use == "subject"


@pytest.mark.parametrize(("frames", "used"), [(81, 81), (80, 77), (10, 9), (2, 1)])
def test_a_clip_that_is_shorter_makes_a_shorter_video(frames, used):
    made = settled(params("video_fast", {"image": ONE}), {"reference_image_url": picture(frames)})
    assert (made.frames, made.adjusted.get("frames", [81, 81])) == (used, [81, used])


def test_the_account_names_pictures_by_their_hash():
    made = settled(params(config={"image": ONE, "denoise_strength": 0.2}), {"reference_image_url": picture()})
    said = account(made.guide, "image")
    assert said["reference_sha256"] == {"reference_image_url": "f" * 64}
    assert (said["pipeline"], said["denoise_strength"], said["resize_policy"]) == ("img2img", 0.2, "center_crop")
    assert USER not in json.dumps(said)


@pytest.mark.parametrize("steps", range(1, 61))
def test_at_least_one_step_is_left_out_and_at_least_one_made(steps):
    counts = [skipped(steps, change / 20) for change in range(21)]
    assert all(min(1, steps - 1) <= count <= steps - 1 for count in counts)
    assert counts == sorted(counts, reverse=True)
