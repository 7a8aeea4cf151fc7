"""`status`, `dead` and `replay`: jobs counted, given up, put back, reported again."""

from __future__ import annotations

import json
import time
import uuid

import httpx
import pytest
from terminal import call, call_json, claimed, completed

from workers import estimates, records
from workers.payload import parse
from workers.supervision import heartbeat
from workers.supervision.heartbeat import Heartbeat


def given_up(queue, reason: str = "callback gone") -> str:
    """A job whose entry is on the dead list; its id."""
    call("submit", "sdxl_image_fast", "a lighthouse at dusk")
    token, job_id = claimed(queue)
    assert queue.bury(token, reason, job_id)
    return job_id


def test_status_counts_every_state(worker):
    for _ in range(5):
        call("submit", "sdxl_image_fast", "a red bicycle")
    worker.claim("held")
    worker.claim("given back")
    worker.release("given back", counted=False)
    for token in ("later", "hopeless"):
        worker.claim(token)
    worker.park("later", 60.0, counted=False)
    worker.bury("hopeless", "unreadable")
    found = call_json("status")["queues"]
    assert found["sdxl_queue"] == {"waiting": 2, "retry": 0, "in_flight": 1, "parked": 1, "dead": 1, "paused": False}
    assert set(found["wan_queue"].values()) == {0}
    assert "sdxl_queue" in call("status").stdout


def test_status_shows_the_workers_of_this_machine_that_live(at_stack):
    now = time.monotonic()
    alive = Heartbeat(1, pid=1, phase="denoise", deadline=0, monotonic=now, step=3, total=15, done=4, commands=1234)
    heartbeat.write(heartbeat.path_of("sdxl"), alive)
    heartbeat.write(heartbeat.path_of("wan"), Heartbeat(1, pid=2**22 + 1, phase="idle", deadline=0, monotonic=0))
    (shown,) = call_json("status")["workers"]
    assert (shown["worker"], shown["phase"], shown["percent"], shown["done"]) == ("sdxl", "denoise", 20, 4)
    assert shown["commands"] == 1234
    assert {"denoise", "1234"} <= set(call("status").stdout.split())


def test_status_shows_the_time_that_is_left_and_what_jobs_usually_take(at_stack):
    alive = Heartbeat(1, pid=1, phase="denoise", deadline=0, monotonic=time.monotonic(), left=12.4)
    heartbeat.write(heartbeat.path_of("wan"), alive)
    records.write(heartbeat.run_dir() / estimates.FILE, {"image_fast": {"denoise": 3.0, "upload": 0.5}})
    assert call_json("status")["estimates"] == {"image_fast": {"denoise": 3.0, "upload": 0.5}}
    assert {"12", "image_fast", "3.5"} <= set(call("status").stdout.split())


def test_a_paused_queue_gives_no_job_until_it_is_resumed(worker):
    call("submit", "sdxl_image_fast", "a red bicycle")
    assert "sdxl_queue is paused" in call("pause", "sdxl").stdout
    assert worker.claim("a").paused
    assert "paused" in call("status").stdout
    assert {name: found["paused"] for name, found in call_json("status")["queues"].items()} == {
        "sdxl_queue": True,
        "wan_queue": False,
    }
    assert "is served again" in call("resume", "sdxl").stdout
    assert worker.claim("a").claim is not None
    assert "was not paused" in call("resume", "sdxl").stdout


def test_only_a_queue_that_exists_can_be_paused(at_stack):
    assert call("pause", "audio").exit_code == 2


def test_the_dead_list_tells_no_prompt_but_showing_an_entry_does(worker):
    job_id = given_up(worker)
    listed = call("dead", "list").stdout
    assert job_id in listed
    assert "callback gone" in listed
    assert "lighthouse" not in listed + call("dead", "list", "--json").stdout
    assert "a lighthouse at dusk" in call("dead", "show", job_id).stdout
    assert json.loads(call_json("dead", "show", job_id)["body"])["id"] == job_id


def test_an_element_that_is_not_text_can_be_shown(at_stack, worker):
    headers = {"Authorization": f"Bearer {at_stack.env['UPSTASH_REDIS_REST_TOKEN']}"}
    httpx.post(f"{at_stack.gateway.url}/lpush/sdxl_queue", content=b"\xff\xfe{", headers=headers)
    worker.claim("a")
    worker.bury("a", "unreadable")
    assert r"\udcff" in call("dead", "show", "a").stdout
    assert call_json("dead", "show", "a")["body"].startswith("\udcff")


def test_a_requeued_job_is_claimed_again_as_new(worker):
    job_id = given_up(worker)
    assert call("dead", "requeue", job_id).exit_code == 0
    assert call_json("dead", "list") == []
    claim = worker.claim(str(uuid.uuid4())).claim
    assert parse(claim.body).id == job_id
    assert (claim.attempt, claim.crashes) == (1, 0)


@pytest.mark.parametrize("command", [["dead", "show"], ["dead", "requeue"], ["replay"]])
def test_what_is_not_there_is_said_so(at_stack, command):
    result = call(*command, str(uuid.uuid4()))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")


def test_a_remembered_result_is_reported_again(at_stack, worker):
    job_id = at_stack.submit("sdxl_image_fast", "a red bicycle", num_images=1)
    token, _ = claimed(worker)
    worker.remember(token, job_id, completed(job_id).record())
    result = call("replay", job_id)
    assert result.exit_code == 0, result.stderr
    assert at_stack.job(job_id)["status"] == "completed"


def test_a_replay_that_the_receiver_refuses_fails_with_its_reason(worker):
    call("submit", "sdxl_image_fast", "a red bicycle")
    token, job_id = claimed(worker)
    worker.remember(token, job_id, completed(job_id).record())
    result = call("replay", job_id)
    assert result.exit_code == 1
    assert "there is no such job" in result.stderr
