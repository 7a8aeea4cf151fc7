"""What a worker process says when it ends: a number for its supervisor, sentences for people."""

from __future__ import annotations

import pytest

from tests.pod import ask

pytestmark = pytest.mark.ring2


@pytest.mark.parametrize("program", ["wan_worker", "orchestrator"])
def test_1_says_every_variable_that_is_missing_at_once(pod, program):
    at = pod(program, supabase_url="", upstash_redis_rest_url="")
    assert at.process.wait(60) == 1
    assert [line.split()[1] for line in at.text().splitlines()] == ["SUPABASE_URL", "UPSTASH_REDIS_REST_URL"]


@pytest.mark.parametrize(("name", "value"), [("LEASE_SECONDS", "soon"), ("CALLBACK_DIALECT", "morse")])
def test_64_names_the_setting_that_is_wrong(pod, name, value):
    at = pod(**{name: value})
    assert at.process.wait(60) == 64
    assert f"error: {name}" in at.text()


def test_75_says_that_the_queue_cannot_be_reached(pod):
    at = pod(upstash_redis_rest_url="http://127.0.0.1:9")
    assert at.process.wait(60) == 75
    assert at.events("queue unreachable")


def test_70_gives_the_job_back_counted(pod, stack):
    stack.submit("image_fast", "a broken vase")
    at = pod()
    assert at.process.wait(60) == 70
    assert at.events("engine broken")[0]["exit_code"] == 70
    assert ask(stack, "LLEN", "wan_queue:retry") == 1
    assert ask(stack, "HVALS", "wan_queue:attempts") == ["1"]


def test_70_is_started_again_by_the_supervisor_after_a_while(pod, stack):
    stack.submit("image_fast", "a broken vase")
    at = pod("orchestrator")
    at.wait_for("worker started", 2)
    end = at.events("worker ended")[0]
    assert (end["code"], end["meaning"]) == (70, "accelerator broken")
    assert 1.0 <= end["retry_in"] <= 1.2


def test_72_ends_a_worker_that_hangs_when_told_to_stop_twice(pod, stack):
    stack.submit("image_fast", "a frozen lake")
    at = pod()
    at.wait_until(lambda: at.beat() and at.beat().phase == "denoise")
    assert at.insist() == 72


def test_0_is_a_drained_worker(pod):
    at = pod()
    at.wait_for("ready")
    assert at.end() == 0
    assert at.events("drained")


def test_a_second_worker_of_a_kind_is_refused_while_the_first_lives(pod):
    first = pod()
    first.wait_for("ready")
    second = pod()
    assert second.process.wait(60) != 0
    assert "Another wan worker runs on this machine" in second.text()
    assert first.end() == 0
