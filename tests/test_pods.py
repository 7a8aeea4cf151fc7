"""Pods with volumes of their own share the queues, and are told through them what not to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.chaos.nursery import Nursery
from tests.pod import Pod, ask, end_leases
from tests.support import wait_until
from workers.kinds import open_queue
from workers.local.stack import LocalStack
from workers.queue.upstash import UpstashQueue
from workers.settings import Settings

pytestmark = pytest.mark.ring2


@pytest.fixture
def pod(tmp_path: Path, stack: LocalStack, nursery: Nursery) -> Iterator[Callable[..., Pod]]:
    """Starts a pod with a name, a folder and thus a volume of its own."""
    pods: list[Pod] = []

    def start(name: str, program: str = "orchestrator", **settings: object) -> Pod:
        (tmp_path / name).mkdir()
        pods.append(Pod(tmp_path / name, stack, program, nursery=nursery, **settings))
        return pods[-1]

    yield start
    for each in pods:
        each.clean_up()


@pytest.fixture
def queue(stack: LocalStack) -> Iterator[UpstashQueue]:
    settings = Settings(_env_file=None, **{name.lower(): value for name, value in stack.env.items()})
    queue = open_queue("wan", settings)
    yield queue
    queue.close()


def submit(stack: LocalStack, count: int) -> list[str]:
    return [stack.submit("image_fast", "a red bicycle") for _ in range(count)]


def accepted(stack: LocalStack, job_id: str) -> list[str]:
    """The terminal statuses that the receiver took for a job."""
    calls = stack.double.callbacks(job_id)
    return [call.status for call in calls if call.answer == 200 and call.status != "processing"]


def test_several_pods_share_a_queue_and_make_each_job_once(pod: Callable[..., Pod], stack: LocalStack) -> None:
    pods = [pod(name, evil_step_seconds=0.05) for name in ("a", "b", "c")]
    for each in pods:
        each.wait_for("ready")
    jobs = submit(stack, 9)
    while not all(each.generations() for each in pods):
        jobs += submit(stack, 3)
        stack.wait_for(jobs[-1])
    assert {stack.wait_for(job)["status"] for job in jobs} == {"completed"}
    assert [accepted(stack, job) for job in jobs] == [["completed"]] * len(jobs)
    assert sum(each.generations() for each in pods) == len(jobs)


def test_what_a_dead_pod_held_is_made_by_another_without_its_volume(pod: Callable[..., Pod], stack: LocalStack) -> None:
    jobs = submit(stack, 6)
    first = pod("a", evil_step_seconds=0.1)
    first.wait_for("made")
    first.clean_up()
    end_leases(stack)
    pod("b")
    assert {stack.wait_for(job)["status"] for job in jobs} == {"completed"}
    assert [accepted(stack, job) for job in jobs] == [["completed"]] * len(jobs)


def test_a_job_cancelled_before_its_claim_is_never_made_nor_spoken_of(
    pod: Callable[..., Pod], stack: LocalStack
) -> None:
    cancelled, other = submit(stack, 2)
    ask(stack, "SET", f"cancel:{cancelled}", "1", "EX", 86_400)
    worker = pod("a", "wan_worker")
    assert stack.wait_for(other)["status"] == "completed"
    assert worker.events("cancelled") == [{**worker.events("cancelled")[0], "job": cancelled, "phase": "waiting"}]
    assert worker.generations() == 1
    assert stack.double.callbacks(cancelled) == []


def test_a_paused_queue_lets_finish_what_is_in_work_and_begins_nothing(
    pod: Callable[..., Pod], stack: LocalStack, queue: UpstashQueue
) -> None:
    (begun,) = submit(stack, 1)
    worker = pod("a", "wan_worker", evil_step_seconds=0.2)
    worker.wait_for("claimed")
    queue.pause()
    (later,) = submit(stack, 1)
    assert stack.wait_for(begun)["status"] == "completed"
    worker.wait_for("queue paused")
    assert stack.job(later)["status"] == "queued"
    queue.resume()
    assert stack.wait_for(later)["status"] == "completed"


def test_a_listening_worker_begins_an_announced_job_at_once(
    pod: Callable[..., Pod], stack: LocalStack, queue: UpstashQueue
) -> None:
    """It polls every ten minutes here, so that only the announcement can be what woke it."""
    worker = pod("a", "wan_worker", wake_ups=True, evil_poll_seconds=600)
    worker.wait_for("ready")
    wait_until(lambda: ask(stack, "PUBSUB", "NUMSUB", "wake:wan_queue")[1] == 1)
    for _ in range(2):
        worker.wait_until(lambda: worker.beat() and worker.beat().phase == "idle")
        (job,) = submit(stack, 1)
        queue.resume()
        assert stack.wait_for(job)["status"] == "completed"


def test_a_worker_says_how_many_commands_it_sent_and_the_gateway_agrees(
    pod: Callable[..., Pod], stack: LocalStack
) -> None:
    before = stack.commands
    worker = pod("a", "wan_worker", evil_poll_seconds=5)
    (job,) = submit(stack, 1)
    stack.wait_for(job)

    def agreed() -> bool:
        beat, by_the_producer = worker.beat(), 1
        return beat is not None and beat.commands == stack.commands - before - by_the_producer

    wait_until(agreed)
