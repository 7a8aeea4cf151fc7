"""The double queues jobs as July's function does: the payload, the rows, the push."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from double import TYPES, USER, popped

from workers.local.stack import LocalStack
from workers.payload import parse


@pytest.mark.parametrize("job_type", TYPES)
def test_every_type_is_queued_where_its_kind_looks(stack: LocalStack, job_type: str) -> None:
    job_id = stack.submit(job_type, "a lighthouse at dusk")
    queue = "sdxl_queue" if job_type.startswith("sdxl_") else "wan_queue"
    job = parse(popped(stack, queue))
    assert (job.id, job.type, job.prompt) == (job_id, job_type, "a lighthouse at dusk")
    assert stack.job(job_id)["status"] == "queued"


def test_the_payload_has_the_form_of_july(stack: LocalStack) -> None:
    job_id = stack.submit("sdxl_image_fast", "a red bicycle", num_images=3, user_id=USER)
    payload = json.loads(popped(stack, "sdxl_queue"))
    created, negative = payload.pop("created_at"), payload.pop("negative_prompt")
    metadata = payload.pop("metadata")
    assert payload == {
        "id": job_id,
        "type": "sdxl_image_fast",
        "prompt": "a red bicycle",
        "config": {
            "size": "480*832",
            "sample_steps": 25,
            "sample_guide_scale": 6.5,
            "sample_solver": "unipc",
            "sample_shift": 5,
            "frame_num": 1,
            "enhance_prompt": False,
            "expected_time": 25,
            "content_type": "image",
            "file_extension": "png",
            "num_images": 3,
        },
        "user_id": USER,
        "character_id": None,
        "model_variant": "lustify_sdxl",
        "bucket": "sdxl_image_fast",
    }
    assert created.endswith("Z")
    assert len(re.findall(r"\w+|,", negative)) > 77
    assert (metadata["num_images"], metadata["credits"]) == (3, 1)


@pytest.mark.parametrize(
    ("job_type", "expected"),
    [
        ("image_fast", (25, 6.5, 1, False)),
        ("image_high", (50, 7.5, 1, False)),
        ("video_fast", (25, 6.5, 83, False)),
        ("video7b_high_enhanced", (50, 7.5, 83, True)),
    ],
)
def test_the_video_model_gets_its_settings(stack: LocalStack, job_type: str, expected: tuple[Any, ...]) -> None:
    stack.submit(job_type, "a red bicycle")
    payload = json.loads(popped(stack, "wan_queue"))
    keys = ("sample_steps", "sample_guide_scale", "frame_num", "enhance_prompt")
    assert tuple(payload["config"][key] for key in keys) == expected
    assert "negative_prompt" not in payload
    assert "image_id" not in payload


def test_what_a_later_client_wishes_reaches_the_config(stack: LocalStack) -> None:
    stack.submit("image_fast", "a red bicycle", seed=0)
    assert json.loads(popped(stack, "wan_queue"))["config"]["seed"] == 0


def test_the_answer_tells_the_length_of_the_queue(api: httpx.Client) -> None:
    body = {"jobType": "image_fast", "prompt": "a red bicycle"}
    answers = [api.post("/functions/v1/queue-job", json=body).json() for _ in range(2)]
    assert [(answer["success"], answer["queueLength"]) for answer in answers] == [(True, 1), (True, 2)]
    assert answers[0]["job"]["job_type"] == "image_fast"


def test_an_unknown_type_is_refused(api: httpx.Client) -> None:
    assert api.post("/functions/v1/queue-job", json={"jobType": "sculpture"}).status_code == 400


def test_a_batch_has_a_numbered_row_for_each_image(stack: LocalStack) -> None:
    job_id = stack.submit("sdxl_image_fast", "a red bicycle", num_images=3)
    assert [row["image_index"] for row in stack.double.rows("images", job_id=job_id)] == [0, 1, 2]


def test_a_single_image_has_a_row_without_number_and_a_clip_a_row_of_its_own(stack: LocalStack) -> None:
    image, clip = stack.submit("image_fast", "a red bicycle"), stack.submit("video_fast", "a red bicycle")
    assert [row["image_index"] for row in stack.double.rows("images", job_id=image)] == [None]
    assert [row["status"] for row in stack.double.rows("videos", job_id=clip)] == ["queued"]
    assert stack.job(clip)["video_id"] == stack.double.rows("videos", job_id=clip)[0]["id"]


def test_a_queue_that_is_away_leaves_the_row_behind(stack: LocalStack) -> None:
    stack.gateway_faults.add("error", path="/lpush/*", count=1)
    with pytest.raises(httpx.HTTPStatusError):
        stack.submit("image_fast", "a red bicycle")
    assert [job["status"] for job in stack.jobs()] == ["queued"]
