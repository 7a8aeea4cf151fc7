"""A pod that is told to stop and killed five seconds later: every job is visible again in time, and none is lost."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.pod import Pod, ask
from tests.support import wait_until
from workers.local.stack import LocalStack

pytestmark = pytest.mark.ring2

FIVE_SECONDS = {"drain_seconds": 5}
BUSY = 25.0
"""Seconds more that all may take on a machine which does other things too."""

PROMPTS = ("a red bicycle", "a lighthouse at dusk", "two green apples", "a paper boat", "a wooden table")


@pytest.fixture
def orchestrator(pod) -> Callable[..., Pod]:
    return functools.partial(pod, "orchestrator", **FIVE_SECONDS)


def is_enough(at: Pod) -> bool:
    """Whether the five seconds that a host gives are enough to end in good order."""
    return at.end(limit=5 + BUSY) == 0


def is_held(stack: LocalStack) -> bool:
    """Whether a claim of this queue is still locked."""
    tokens = ask(stack, "HKEYS", "wan_queue:inflight")
    return any(ask(stack, "EXISTS", f"wan_queue:lock:{token}") for token in tokens)


def accepted(stack: LocalStack, job_id: str) -> list[str]:
    """The terminal statuses that the receiver took for a job."""
    calls = stack.double.callbacks(job_id)
    return [call.status for call in calls if call.answer == 200 and call.status != "processing"]


@pytest.mark.parametrize("trial", range(3))
def test_stopped_at_any_moment_nothing_is_lost_or_done_twice(orchestrator, stack, trial):
    jobs = [stack.submit("image_fast", prompt) for prompt in PROMPTS]
    at = orchestrator(evil_step_seconds=0.1, drain_seconds=25)
    at.wait_for("ready")
    time.sleep(random.Random(trial).uniform(0.0, 2.0))  # the moment itself is what is tried
    assert at.end() == 0
    assert not is_held(stack)
    orchestrator()
    assert {stack.wait_for(job)["status"] for job in jobs} == {"completed"}
    wait_until(lambda: not ask(stack, "HLEN", "wan_queue:inflight"))
    assert [accepted(stack, job) for job in jobs] == [["completed"]] * len(jobs)


def test_five_seconds_are_enough_to_give_back_what_cannot_be_stored(orchestrator, stack):
    stack.double_faults.add("hang", path="/storage/*", seconds=60)
    jobs = [stack.submit("image_fast", prompt) for prompt in PROMPTS]
    at = orchestrator()
    at.wait_until(lambda: all((at.outbox / job / "record.json").exists() for job in jobs))
    assert is_enough(at)
    assert not is_held(stack)
    assert ask(stack, "LLEN", "wan_queue:retry") == len(jobs)
    stack.double_faults.clear()
    orchestrator()
    assert {stack.wait_for(job)["status"] for job in jobs} == {"completed"}
    assert at.generations() == len(jobs)


def test_a_long_job_is_given_back_uncounted_as_soon_as_it_cannot_end_in_time(orchestrator, stack):
    job = stack.submit("image_fast", "a red bicycle")
    at = orchestrator(evil_step_seconds=0.1, evil_steps=10_000)
    at.wait_for("claimed")
    assert is_enough(at)
    assert ask(stack, "LLEN", "wan_queue:retry") == 1
    again = orchestrator()
    assert stack.wait_for(job)["status"] == "completed"
    assert again.wait_for("delivered")["attempt"] == 1


def test_a_worker_that_hangs_is_killed_and_its_job_is_visible_when_its_lease_ends(orchestrator, stack):
    stack.submit("image_fast", "a frozen lake")
    at = orchestrator(lease_seconds=2)
    at.wait_until(lambda: at.beat() and at.beat().phase == "denoise")
    at.send(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        at.process.wait(5)
    at.clean_up()
    wait_until(lambda: not is_held(stack))
    assert ask(stack, "HLEN", "wan_queue:inflight") == 1


def is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("prompt", ["a red bicycle", "a frozen lake"])
def test_a_busy_worker_of_a_killed_supervisor_is_soon_gone_too(orchestrator, stack, prompt):
    stack.submit("image_fast", prompt)
    at = orchestrator(evil_step_seconds=1.0, lease_seconds=2)
    at.wait_until(lambda: at.beat() and at.beat().phase == "denoise")
    worker = at.beat().pid
    os.kill(at.process.pid, signal.SIGKILL)
    wait_until(lambda: is_gone(worker))
    wait_until(lambda: not is_held(stack))


def test_a_second_signal_gives_everything_back_at_once(orchestrator, stack):
    stack.double_faults.add("hang", path="/storage/*", seconds=60)
    stack.submit("image_fast", "a red bicycle")
    at = orchestrator(drain_seconds=3600)
    at.wait_for("made")
    assert at.insist() == 0
    assert ask(stack, "LLEN", "wan_queue:retry") == 1
