"""Finished files wait on the volume until they are delivered, whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from workers.delivery.outbox import Outbox, Sealed
from workers.job import Artifact

JOB = "b91f6c1e-3c5d-4f67-9a1b-2f0c5d7e8a90"
USER = "11111111-2222-4333-8444-555555555555"
DAY = 86_400


@pytest.fixture
def outbox(tmp_path) -> Outbox:
    return Outbox(tmp_path / "outbox", min_free=0)


def picture(folder: Path, index: int = 0, content: bytes = b"pixels", thumbnail: bool = False) -> Artifact:
    path, small = folder / f"{index}.png", folder / f"{index}.thumb.webp"
    path.write_bytes(content)
    if thumbnail:
        small.write_bytes(b"small")
    return Artifact(index, path, "image/png", (128, 64), 1, seed=7 + index, thumbnail=small if thumbnail else None)


def staged(outbox: Outbox, token: str = "a" * 32, **changes) -> tuple[Path, Sealed]:
    """A folder with two pictures that only lacks its seal."""
    folder = outbox.stage(token)
    artifacts = (picture(folder, 0, **changes), picture(folder, 1, thumbnail=True))
    facts = {"enhanced_prompt": "a red bicycle, naïvely lit", "metadata": {"timings": {"encode": 0.1}}}
    return folder, Sealed(folder, JOB, "sdxl_image_fast", USER, artifacts, **facts)


def sealed(outbox: Outbox, token: str = "a" * 32, **changes) -> Sealed:
    return outbox.seal(*staged(outbox, token, **changes))


def aged(folder: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(folder, (then, then))


def test_what_is_sealed_is_found_by_another_process_as_it_was(outbox):
    given = sealed(outbox)
    found = Outbox(outbox.root).find(JOB)
    assert found == given
    assert found.folder == outbox.root / JOB
    assert [artifact.path.read_bytes() for artifact in found.artifacts] == [b"pixels", b"pixels"]
    assert found.artifacts[1].thumbnail.read_bytes() == b"small"
    assert (found.artifacts[0].size, found.artifacts[1].seed) == ((128, 64), 8)
    assert found.enhanced_prompt == "a red bicycle, naïvely lit"


def test_what_is_not_sealed_is_not_found(outbox):
    staged(outbox)
    assert outbox.find(JOB) is None


def test_who_seals_second_discards_and_gets_the_first_ones_files(outbox):
    first = sealed(outbox, "a" * 32, content=b"first")
    second = sealed(outbox, "b" * 32, content=b"second")
    assert second == first
    assert second.artifacts[0].path.read_bytes() == b"first"
    assert [folder.name for folder in outbox.root.iterdir()] == [JOB]


@pytest.mark.parametrize("what_is_left", ["nothing", "a torn record", "a record of another version", "no pictures"])
def test_a_folder_that_is_not_whole_is_as_good_as_none(outbox, what_is_left):
    folder = sealed(outbox).folder
    record = folder / "record.json"
    match what_is_left:
        case "nothing":
            record.unlink()
        case "a torn record":
            record.write_bytes(record.read_bytes()[:40])
        case "a record of another version":
            record.write_text(record.read_text().replace('"user_id"', '"owner"'))
        case "no pictures":
            (folder / "0.png").unlink()
    assert outbox.find(JOB) is None


def test_a_folder_that_is_not_whole_makes_room_for_one_that_is(outbox):
    (outbox.root / JOB).mkdir(parents=True)
    (outbox.root / JOB / "0.png").write_bytes(b"torn")
    assert sealed(outbox).artifacts[0].path.read_bytes() == b"pixels"


def test_staging_again_begins_anew(outbox):
    (outbox.stage("a" * 32) / "0.png").write_bytes(b"torn")
    assert list(outbox.stage("a" * 32).iterdir()) == []


def test_discarding_leaves_nothing(outbox):
    folder, _ = staged(outbox)
    outbox.discard(folder)
    assert list(outbox.root.iterdir()) == []


def test_removing_is_harmless_when_repeated(outbox):
    sealed(outbox)
    for _ in range(2):
        outbox.remove(JOB)
    assert list(outbox.root.iterdir()) == []


def test_a_sweep_takes_complete_folders_after_a_week_and_staged_ones_after_a_day(outbox):
    aged(sealed(outbox).folder, days=6.9)
    aged(outbox.stage("c" * 32), days=0.9)
    assert outbox.sweep() == []
    aged(outbox.root / JOB, days=7.1)
    aged(outbox.root / f".{'c' * 32}", days=1.1)
    assert sorted(outbox.sweep()) == [f".{'c' * 32}", JOB]
    assert list(outbox.root.iterdir()) == []


def test_a_sweep_needs_no_folder(outbox):
    assert outbox.sweep() == []


def test_a_fresh_volume_is_no_problem(outbox):
    assert outbox.problem() is None
    assert list(outbox.root.iterdir()) == []


def test_a_volume_that_cannot_be_written_is_a_problem(outbox):
    outbox.root.write_text("a file where the folder should be")
    assert "cannot be written" in outbox.problem()


def test_a_volume_that_is_nearly_full_is_a_problem(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert "MiB left" in Outbox(tmp_path, min_free=2 * free).problem()


def test_at_boot_the_files_of_delivered_jobs_are_removed_and_no_others(outbox):
    sealed(outbox)
    assert not outbox.collect_garbage(lambda _job_id: False)
    assert outbox.jobs() == [JOB]
    assert not outbox.collect_garbage(lambda job_id: job_id == JOB)
    assert outbox.jobs() == []
