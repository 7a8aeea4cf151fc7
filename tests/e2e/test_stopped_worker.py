"""A worker that is asked to stop finishes what is short, hands back what is long, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from messages import USER
from support import wait_until
from system import FAKE, System

from workers.claim import Claim
from workers.local.stack import LocalStack
from workers.queue.upstash import UpstashQueue

pytestmark = pytest.mark.ring2

Start = Callable[..., System]


@pytest.fixture
def start(stack: LocalStack, models: Path, tmp_path: Path) -> Iterator[Start]:
    """A worker whose every job takes so many steps of a twentieth of a second."""
    with ExitStack() as running:

        def started(steps: int, **env: str) -> System:
            places = {"MODEL_ROOT": str(models), "OUTBOX_DIR": str(tmp_path / "outbox"), "DEVICE": "cpu"}
            system = System(tmp_path, FAKE, "sdxl", str(steps), "0.05", env={**stack.env, **places, **env})
            return running.enter_context(system)

        yield started


def queued(stack: LocalStack) -> str:
    return stack.submit("sdxl_image_fast", "a red bicycle", user_id=USER, num_images=1)


def next_claim(stack: LocalStack) -> tuple[str, Claim]:
    """What another worker would get now, and for which job."""
    queue = UpstashQueue("sdxl_queue", stack.gateway.url, stack.env["UPSTASH_REDIS_REST_TOKEN"], lease=45.0)
    claim = queue.claim("f" * 32).claim
    queue.close()
    assert claim is not None
    return next(row["id"] for row in stack.jobs() if row["id"] in claim.body), claim


def waits_for_storage(system: System, job_id: str) -> bool:
    return bool(system.events("made", job=job_id)) and not system.events("delivered", job=job_id)


def test_a_short_job_is_finished_and_delivered(start: Start, stack: LocalStack):
    job_id = queued(stack)
    worker = start(steps=20)
    worker.wait_for_work("sdxl", job_id)
    worker.ask_to_stop()
    assert worker.ends() == 0
    assert stack.job(job_id)["status"] == "completed"


def test_a_long_job_goes_back_to_the_head_uncounted_and_others_stay(start: Start, stack: LocalStack):
    long, other = queued(stack), queued(stack)
    worker = start(steps=10_000, DRAIN_SECONDS="1")
    worker.wait_for_work("sdxl", long, step=2)
    worker.ask_to_stop()
    assert worker.ends() == 0
    job_id, claim = next_claim(stack)
    assert (job_id, claim.attempt, claim.crashes) == (long, 1, 0)
    assert stack.job(other)["status"] == "queued"


def test_a_second_signal_hands_back_a_job_in_the_midst_of_its_making(start: Start, stack: LocalStack):
    job_id = queued(stack)
    worker = start(steps=10_000, DRAIN_SECONDS="3600")
    worker.wait_for_work("sdxl", job_id, step=2)
    worker.insist()
    assert worker.ends() == 0
    assert next_claim(stack)[1].attempt == 1


def test_a_second_signal_hands_back_a_job_that_waits_for_storage(start: Start, stack: LocalStack):
    stack.double_faults.add("latency", path="/storage/*", seconds=60.0)
    job_id = queued(stack)
    worker = start(steps=2, DRAIN_SECONDS="3600")
    wait_until(lambda: waits_for_storage(worker, job_id))
    worker.insist()
    assert worker.ends() == 0
    claimed, claim = next_claim(stack)
    assert (claimed, claim.attempt, claim.crashes) == (job_id, 1, 0)


def test_what_was_handed_back_after_its_making_is_not_made_again(start: Start, stack: LocalStack, tmp_path: Path):
    fault = stack.double_faults.add("error", path="/storage/*")
    job_id = queued(stack)
    worker = start(steps=2, DRAIN_SECONDS="0")
    wait_until(lambda: fault.struck)
    worker.ask_to_stop()
    assert worker.ends() == 0
    stack.double_faults.clear()
    (tmp_path / "again").mkdir()
    with System(tmp_path / "again", *worker.command[1:], env=worker.env | {"OURVIDZ_RUN_DIR": str(tmp_path)}) as other:
        assert stack.wait_for(job_id)["status"] == "completed"
        assert other.events("resumed", job=job_id)
        assert not other.events("made")
