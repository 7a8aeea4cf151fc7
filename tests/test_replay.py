"""Callbacks of real processes: repeated, signed anew each time, given up with a reason, and sent again by hand."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.pod import ask, end_leases
from tests.receiver import Answer, running_receiver
from workers.local.stack import SECRET, LocalStack

pytestmark = pytest.mark.ring2

CALLBACK = "/functions/v1/job-callback"


def command_line(stack: LocalStack, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workers", *words]
    return subprocess.run(command, env=os.environ | stack.env, capture_output=True, text=True, check=False)


def dead(stack: LocalStack) -> list[dict[str, str]]:
    return [json.loads(entry.partition("\n")[0]) for entry in ask(stack, "LRANGE", "wan_queue:dead", 0, -1)]


def test_a_callback_that_never_gets_through_is_given_up_with_its_reason_and_sent_again_by_hand(pod, stack):
    stack.double_faults.add("error", path=CALLBACK, contains='"completed"', status=503)
    at = pod()
    job = stack.submit("image_fast", "a red bicycle")
    at.wait_until(lambda: dead(stack))
    (entry,) = dead(stack)
    assert (entry["job_id"], entry["reason"]) == (job, "callback retry: the callback's receiver answered 503")
    assert len(at.events("callback failed")) == 3
    assert command_line(stack, "replay", job).returncode == 1
    stack.double_faults.clear()
    assert command_line(stack, "replay", job).returncode == 0
    assert stack.job(job)["status"] == "completed"
    assert at.generations() == 1


def test_every_repetition_is_the_same_message_with_a_signature_of_its_own_time(pod, stack):
    with running_receiver() as receiver:
        receiver.answers += [Answer(200), Answer(503), Answer(cut=True), Answer(200)]
        at = pod(callback_url=receiver.url)
        job = stack.submit("image_fast", "a red bicycle")
        at.wait_for("delivered")
        first, *repeated = [r for r in receiver.requests if r.method == "POST" and r.json["status"] == "completed"]
    assert len(repeated) == 2
    for request in (first, *repeated):
        assert (request.body, request.headers["webhook-id"]) == (first.body, f"{job}.completed")
        expected = hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
        assert request.headers["x-callback-signature"] == f"sha256={expected}"
        assert request.headers["webhook-signature"].startswith("v1,")


def test_a_callback_whose_worker_is_killed_is_sent_by_the_next_without_the_card(pod, stack):
    hanging = stack.double_faults.add("hang", path=CALLBACK, contains='"completed"', seconds=60)
    first = pod()
    job = stack.submit("image_fast", "a red bicycle")
    first.wait_until(lambda: hanging.struck)
    first.end(signal.SIGKILL)
    end_leases(stack)
    stack.double_faults.clear()
    second = pod()
    assert stack.wait_for(job)["status"] == "completed"
    assert (second.wait_for("delivered")["attempt"], second.generations()) == (2, 1)


def test_a_picture_of_a_job_that_fails_on_a_later_attempt_is_removed(pod, stack):
    """Uploaded, killed, its files lost, and then nothing but failures."""
    hanging = stack.double_faults.add("hang", path=CALLBACK, contains='"completed"', seconds=60)
    first = pod()
    job = stack.submit("image_fast", "a red bicycle")
    first.wait_until(lambda: hanging.struck)
    assert [item["path"].split("/")[1] for item in stack.objects()] == [job]
    first.end(signal.SIGKILL)
    end_leases(stack)
    stack.double_faults.clear()
    ask(stack, "DEL", f"wan_queue:result:{job}")
    ask(stack, "HSET", "wan_queue:attempts", *_only_key(stack), 9)
    pod(outbox_dir=first.folder / "another volume")
    assert stack.wait_for(job)["status"] == "failed"
    assert stack.objects() == []


def _only_key(stack: LocalStack) -> list[str]:
    (claim,) = ask(stack, "HKEYS", "wan_queue:bodies")
    return [claim]
