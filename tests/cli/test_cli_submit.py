"""`submit`: one job pushed by hand, and followed to its end."""

from __future__ import annotations

import json
import uuid

import pytest
from support import wait_until
from terminal import USER, call, call_json, claimed, completed, start

from workers.claim import Beat
from workers.cli.follow import ended, follow
from workers.delivery.report import Report
from workers.errors import Rejected
from workers.kinds import open_queue
from workers.payload import parse
from workers.resolve import resolve
from workers.tables import load_presets

JULY_KEYS = ["id", "type", "prompt", "config", "user_id", "created_at"]
JULY_END = ["character_id", "model_variant", "bucket", "metadata"]


def submitted(queue, *options: str, job_type: str = "sdxl_image_fast") -> str:
    """The element that a worker of this queue gets."""
    assert call("submit", job_type, "a red bicycle", *options).exit_code == 0
    return queue.claim(str(uuid.uuid4())).claim.body


def test_a_picture_is_pushed_exactly_in_julys_form(worker):
    payload = json.loads(submitted(worker, "--count", "3", "--user", USER))
    assert list(payload) == [*JULY_KEYS, "negative_prompt", *JULY_END]
    assert payload["config"] == {
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
    }
    assert (payload["type"], payload["prompt"], payload["user_id"]) == ("sdxl_image_fast", "a red bicycle", USER)
    assert (payload["model_variant"], payload["bucket"]) == ("lustify_sdxl", "sdxl_image_fast")
    assert payload["character_id"] is None
    assert payload["metadata"]["num_images"] == 3


def test_a_clip_goes_to_its_own_queue_without_a_negative_prompt(settings):
    queue = open_queue("wan", settings)
    payload = json.loads(submitted(queue, job_type="video7b_high_enhanced"))
    queue.close()
    assert list(payload) == [*JULY_KEYS, *JULY_END]
    expected = {"frame_num": 83, "sample_steps": 50, "sample_guide_scale": 7.5, "enhance_prompt": True}
    assert expected.items() <= payload["config"].items()
    assert (payload["config"]["content_type"], payload["config"]["file_extension"]) == ("video", "mp4")


@pytest.mark.parametrize(("job_type", "size"), [("sdxl_image_high", "1024*576"), ("video_fast", "832*480")])
def test_wishes_reach_the_worker(settings, job_type, size):
    preset = load_presets()[job_type]
    queue = open_queue(preset.kind, settings)
    job = parse(submitted(queue, "--seed", "0", "--size", size, "--negative", "rain", job_type=job_type))
    queue.close()
    params = resolve(job, preset)
    assert f"{params.width}*{params.height}" == size
    assert params.seeds[0] == 0
    assert job.negative_prompt == "rain"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sculpture", "a red bicycle"], "sdxl_image_fast"),
        (["sdxl_image_fast", "a red bicycle", "--count", "7"], "1, 3, 6"),
        (["video_fast", "a red bicycle", "--count", "3"], "makes 1 at a time"),
        (["image_fast", "a red bicycle", "--size", "0*0"], "480*832"),
        (["image_fast", "a red bicycle", "--user", "me"], "user"),
        (["image_fast", "a red bicycle", "--seed", "-1"], "seed"),
        (["image_fast", "a red bicycle " * 300], "longer than 4,000"),
    ],
)
def test_what_a_worker_would_refuse_is_not_pushed(at_stack, arguments, told):
    result = call("submit", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert all(queue["waiting"] == 0 for queue in call_json("status")["queues"].values())


def test_waiting_shows_the_end_and_where_the_result_lies(at_stack, worker):
    process = start("-m", "workers", "submit", "sdxl_image_fast", "a red bicycle", "--wait", "--json", env=at_stack.env)
    wait_until(worker.waiting)
    token, job_id = claimed(worker)
    worker.beat([Beat(token, job_id, {"phase": "denoise", "step": 3, "steps": 15, "percent": 20})])
    worker.remember(token, job_id, completed(job_id).record())
    worker.ack(token, job_id)
    printed = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    assert (printed["job_id"], printed["state"]) == (job_id, "completed")
    assert printed["assets"] == [f"sdxl_image_fast/{USER}/{job_id}/0.png"]


def test_a_failed_job_ends_the_waiting_with_its_sentence(view, worker):
    call("submit", "sdxl_image_fast", "a red bicycle")
    token, job_id = claimed(worker)
    report = Report.of_failure(job_id, Rejected("The number of images must be 1, 3 or 6."), "sdxl_image_fast")
    worker.remember(token, job_id, report.record())
    worker.ack(token, job_id)
    ending = follow(view, job_id, limit=60)
    assert (ending.state, ending.good) == ("failed", False)
    assert ending.reason == "The number of images must be 1, 3 or 6."


@pytest.mark.parametrize(("failures", "buried"), [(1, False), (0, True)])
def test_a_result_that_is_stored_but_could_not_be_reported_is_a_good_end(view, worker, failures, buried):
    call("submit", "sdxl_image_fast", "a red bicycle")
    token, job_id = claimed(worker)
    worker.remember(token, job_id, completed(job_id).record() | {"failures": failures})
    if buried:
        worker.bury(token, "callback gone: there is no such job", job_id)
    ending = follow(view, job_id, limit=60)
    assert (ending.state, ending.good, len(ending.assets)) == ("stored", True, 1)
    assert "The callback was not accepted." in ending.reason


def test_a_result_on_its_way_to_the_callback_is_waited_for(view, worker):
    call("submit", "sdxl_image_fast", "a red bicycle")
    token, job_id = claimed(worker)
    worker.remember(token, job_id, completed(job_id).record())
    assert ended(view, job_id, seconds=0.0) is None


def test_waiting_ends_when_the_time_is_up(view):
    assert follow(view, str(uuid.uuid4()), limit=0.05, poll=0.01).state == "unknown"
