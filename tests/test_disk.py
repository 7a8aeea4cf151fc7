"""The outbox and its volume: full, over its quota, read-only, gone. No job is claimed, none is lost, none is blamed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.guarding import audited, guarded
from tests.pod import ask, end_leases
from tests.support import wait_until
from tests.workbench import Bench, payload
from workers.delivery.outbox import MIB, Outbox, volume_fault

ring2 = pytest.mark.ring2
MEMORY = Path("/dev/shm")


def folder_of(root: Path, name: str, size: int, age: float = 0.0) -> Path:
    """A job's files, written so many seconds ago."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(bytes(size))
    then = time.time() - age
    os.utime(folder, (then, then))
    return folder


# What counts as trouble


def test_an_outbox_within_its_quota_is_no_problem(tmp_path):
    folder_of(tmp_path, "a", MIB)
    assert Outbox(tmp_path, min_free=0, quota=MIB).problem() is None


def test_an_outbox_over_its_quota_is_a_problem_that_says_its_size(tmp_path):
    for name in ("a", "b", ".c"):
        folder_of(tmp_path, name, MIB)
    assert Outbox(tmp_path, min_free=0, quota=2 * MIB).problem() == "the outbox holds 3 MiB, more than its quota of 2"


def test_without_a_quota_an_outbox_may_grow(tmp_path):
    folder_of(tmp_path, "a", MIB)
    assert Outbox(tmp_path, min_free=0).problem() is None


def test_an_outbox_over_its_quota_first_gives_up_what_nobody_came_for(tmp_path):
    left, fresh = folder_of(tmp_path, "left", MIB, age=3700), folder_of(tmp_path, "fresh", MIB)
    assert Outbox(tmp_path, min_free=0, quota=MIB).problem() is None
    assert (left.exists(), fresh.exists()) == (False, True)


def test_within_its_quota_nothing_is_given_up(tmp_path):
    left = folder_of(tmp_path, "left", MIB, age=3700)
    assert Outbox(tmp_path, min_free=0, quota=2 * MIB).problem() is None
    assert left.exists()


def test_another_volume_in_its_place_is_a_problem(tmp_path):
    root, elsewhere = tmp_path / "outbox", MEMORY / f"outbox-{os.getpid()}"
    outbox = Outbox(root, min_free=0)
    assert outbox.problem() is None
    root.rmdir()
    elsewhere.mkdir()
    try:
        root.symlink_to(elsewhere)
        assert outbox.problem() == "the outbox's volume is gone"
    finally:
        elsewhere.rmdir()


def test_a_volume_that_takes_names_but_no_bytes_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / f".probe-{os.getpid()}").symlink_to("/dev/full")
    assert Outbox(tmp_path, min_free=0).problem() == "the outbox cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError("x"), OSError("no number"), FileNotFoundError(2, "x"), TimeoutError()])
def test_another_error_is_not_the_volumes_fault(error):
    assert volume_fault(error) is None


# A worker in a thread


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    at = Bench(tmp_path)
    yield at
    at.finish()


def test_nothing_is_claimed_over_the_quota_and_the_worker_goes_on_when_there_is_room(bench, monkeypatch):
    monkeypatch.setattr("workers.claiming.BACK_OFF", (0.02,))
    bench.outbox = bench.worker._at.outbox
    bench.outbox._quota = MIB
    full = folder_of(bench.outbox.root, "full", 2 * MIB)
    bench.start().push(payload())
    wait_until(lambda: bench.worker.between == "unready")
    assert bench.queue.waiting() == 1
    shutil.rmtree(full)
    assert bench.ends()[0].status == "completed"
    assert bench.worker.between == "idle"


@pytest.fixture
def without_audit(tmp_path) -> Callable[..., tuple[Bench, Callable[[], None]]]:
    """A worker whose audit cannot be written, and what heals that."""
    away = tmp_path / "away"

    def start(**parts) -> tuple[Bench, Callable[[], None]]:
        at = Bench(tmp_path, guards=guarded(tmp_path, **parts))
        (tmp_path / "audit").rename(away)
        (tmp_path / "audit").touch()

        def heal() -> None:
            (tmp_path / "audit").unlink()
            away.rename(tmp_path / "audit")

        return at, heal

    return start


@pytest.mark.parametrize(
    ("prompt", "explicit", "gate"), [("a minor, nsfw", 0.0, "G1"), ("a red bicycle", 0.9, "G3")], ids=["G1", "G3"]
)
def test_a_refusal_waits_until_it_can_be_written_down(without_audit, tmp_path, monkeypatch, prompt, explicit, gate):
    monkeypatch.setattr("workers.claiming.BACK_OFF", (0.02,))
    monkeypatch.setattr("workers.delivery.courier.RETRY_AFTER", 0.02)
    at, heal = without_audit(explicit=explicit)
    at.start().push(payload(prompt=prompt))
    wait_until(lambda: at.worker.between == "unready")
    assert (at.callbacks.outcomes, at.storage.objects) == ([], {})
    heal()
    (outcome,) = at.ends()
    assert (outcome.status, outcome.error_type, at.queue.dead()) == ("failed", "policy", [])
    assert [line["gate"] for line in audited(tmp_path, "blocked")] == [gate]
    assert at.finish() == 0


def test_a_job_that_could_not_be_written_down_is_not_blamed(without_audit, tmp_path, monkeypatch):
    monkeypatch.setattr("workers.claiming.BACK_OFF", (0.02,))
    at, heal = without_audit()
    at.start().push(payload())
    wait_until(lambda: at.worker.between == "unready")
    heal()
    (outcome,) = at.ends()
    assert (outcome.status, outcome.metadata["attempt"]) == ("completed", 1)
    assert at.finish() == 0


# Real processes


@ring2
@pytest.mark.parametrize("place", ["/proc/outbox", "/dev/full/outbox", "/dev/null"])
def test_on_a_volume_that_cannot_be_written_nothing_is_claimed(pod, stack, place):
    job = stack.submit("image_fast", "a red bicycle")
    at = pod(outbox_dir=place)
    assert at.wait_for("cannot claim", 3)["reason"].startswith("the outbox cannot be written")
    at.wait_until(lambda: at.beat() and at.beat().phase == "unready")
    assert ask(stack, "LLEN", "wan_queue") == 1
    assert stack.job(job)["status"] == "queued"
    assert at.end() == 0


def taken(place: Path) -> None:
    """A file is there; until it is, the worker may make a folder there again."""
    while not place.is_file():
        shutil.rmtree(place, ignore_errors=True)
        with suppress(IsADirectoryError):
            place.write_text("in its place")


@ring2
def test_a_volume_that_comes_back_is_used_again(pod, stack):
    at = pod()
    assert stack.wait_for(stack.submit("image_fast", "a red bicycle"))["status"] == "completed"
    at.outbox.rename(at.folder / "away")
    taken(at.outbox)
    at.wait_for("cannot claim")
    job = stack.submit("image_fast", "a lighthouse at dusk")
    at.wait_for("cannot claim", 3)
    assert stack.job(job)["status"] == "queued"
    at.outbox.unlink()
    (at.folder / "away").rename(at.outbox)
    assert stack.wait_for(job)["status"] == "completed"


@ring2
@pytest.mark.parametrize("flood", ["an early flood", "a late flood"])
@pytest.mark.parametrize("job_type", ["image_fast", "video_fast"])
def test_a_disk_that_fills_meanwhile_leaves_nothing_half_written_and_blames_no_job(pod, stack, flood, job_type):
    at = pod()
    job = stack.submit(job_type, f"{flood}, a red bicycle", frame_num=5)
    event = at.wait_for("volume failed", 5)
    assert (event["job"], event["reason"]) == (job, "No space left on device")
    assert stack.job(job)["status"] == "processing"
    assert at.end() == 0
    assert list(at.outbox.iterdir()) == []
    assert (ask(stack, "LLEN", "wan_queue:retry"), ask(stack, "HLEN", "wan_queue:inflight")) in ((1, 0), (0, 1))


@ring2
def test_files_of_a_killed_worker_are_delivered_by_the_next_one_without_its_card(pod, stack):
    stack.double_faults.add("hang", path="/storage/*", seconds=60)
    first = pod()
    job = stack.submit("video_fast", "a paper boat on a pond", frame_num=9)
    first.wait_until(lambda: (first.outbox / job / "record.json").exists())
    first.end(signal.SIGKILL)
    end_leases(stack)
    stack.double_faults.clear()
    second = pod()
    assert stack.wait_for(job)["status"] == "completed"
    assert second.events("resumed")[0]["job"] == job
    assert second.generations() == 1
    second.wait_until(lambda: list(second.outbox.iterdir()) == [])


@ring2
def test_a_supervised_worker_without_a_volume_stays_alive_and_says_why(pod, stack, tmp_path):
    (tmp_path / "outbox").write_text("a file where the folder should be")
    at = pod("orchestrator")
    at.wait_for("cannot claim", 4)
    at.wait_until(lambda: at.beat() and at.beat().phase == "unready")
    assert not at.events("worker ended")
    assert at.end() == 0
