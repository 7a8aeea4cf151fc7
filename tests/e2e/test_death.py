"""Workers with true engines that kill themselves at two named points; what the others do is in test_chaos.py."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from messages import USER
from pod import end_leases
from system import ROOT, System

from workers.crash import VARIABLE
from workers.local.stack import LocalStack

pytestmark = [pytest.mark.ring2, pytest.mark.chaos]

Start = Callable[..., System]


@pytest.fixture
def start(stack: LocalStack, models: Path, tmp_path: Path) -> Iterator[Start]:
    """One worker after the other on the same volume."""
    places = {"MODEL_ROOT": str(models), "OUTBOX_DIR": str(tmp_path / "outbox"), "DEVICE": "cpu", "WATERMARK": "false"}
    with ExitStack() as running:

        def started(kind: str, **env: str) -> System:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            program = str(ROOT / f"{kind}_worker.py")
            return running.enter_context(System(folder, program, env={**stack.env, **places, **env}))

        yield started


def test_a_job_whose_worker_dies_in_the_midst_of_its_steps_is_made_again_from_the_same_seed(
    start: Start, stack: LocalStack
):
    job_id = stack.submit("sdxl_image_fast", "a red bicycle", user_id=USER, num_images=1, seed=7)
    assert start("sdxl", **{VARIABLE: "generating:3"}).ends() == -signal.SIGKILL
    end_leases(stack, "sdxl_queue")
    start("sdxl")
    assert stack.wait_for(job_id)["status"] == "completed"
    (body,) = [seen.body for seen in stack.double.callbacks(job_id) if seen.status == "completed"]
    assert (body["metadata"]["attempt"], body["metadata"]["seeds"]) == (2, [7])


def test_a_clip_whose_worker_dies_before_its_upload_is_delivered_without_being_made_again(
    start: Start, stack: LocalStack
):
    job_id = stack.submit("video_fast", "a paper boat on a pond", user_id=USER, frame_num=5)
    first = start("wan", **{VARIABLE: "sealed"})
    assert first.ends() == -signal.SIGKILL
    end_leases(stack, "wan_queue")
    heir = start("wan")
    assert stack.wait_for(job_id)["status"] == "completed"
    assert len(first.events("made", job=job_id)) == 1
    assert len(heir.events("resumed", job=job_id)) == 1
    assert not heir.events("made", job=job_id)
