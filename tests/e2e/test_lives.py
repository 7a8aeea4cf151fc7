"""Processes end, on request or by force, and others go on: nothing is lost, and pictures stay the same."""

from __future__ import annotations

import pytest
from runs import SEED, SEEDED, Run
from shown import Shown, shown
from support import post

from workers.local.stack import TOKEN

pytestmark = pytest.mark.ring2


def left(run: Run) -> list[int]:
    """How much of each list and of each claim is still in redis."""
    commands = [[command, f"{name}_queue{key}"] for name in ("sdxl", "wan") for command, key in LEFT]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    replies = post(f"{run.stack.gateway.url}/pipeline", json=commands, headers=headers).raise_for_status().json()
    return [reply["result"] for reply in replies]


LEFT = (("LLEN", ""), ("LLEN", ":retry"), ("HLEN", ":bodies"), ("HLEN", ":inflight"))


def contents(run: Run, label: str) -> list[Shown]:
    return [shown(content) for name, content in run.files(label).items() if ".thumb." not in name]


# A worker is killed in mid-generation


def test_the_job_of_a_killed_worker_is_finished_by_its_successor(newest: Run):
    body = newest.body("the victim")
    assert (body["status"], body["metadata"]["attempt"]) == ("completed", 2)
    assert len(body["assets"]) == 3


def test_it_is_delivered_once(newest: Run):
    (only,) = newest.callbacks("the victim")
    assert (only.status, only.answer) == ("completed", 200)
    assert len(contents(newest, "the victim")) == 3
    assert len(newest.stack.double.rows("workspace_assets", job_id=newest.jobs["the victim"])) == 3


def test_its_lease_was_ended_so_that_nobody_had_to_wait_for_it(newest: Run):
    (ended,) = newest.system.events("worker ended", meaning="SIGKILL")
    assert ended["slot"] == "sdxl"
    let_go = newest.system.events("leases ended")[0]
    assert (let_go["kind"], let_go["claims"]) in {("sdxl", 1), ("sdxl", 2)}  # the second is one that was claimed ahead


def test_the_other_jobs_did_not_notice(newest: Run):
    others = [label for label in newest.jobs if label not in ("the victim", "rated adult")]
    assert {newest.row(label)["status"] for label in others} == {"completed"}
    assert sum(newest.body(label)["metadata"]["attempt"] - 1 for label in others) in {0, 1}  # one was claimed ahead
    assert len(newest.system.events("worker started", slot="wan")) == 1


# The orchestrator is asked to stop


def test_asked_to_stop_the_workers_finish_what_they_make_and_all_end_with_0(july: Run):
    assert july.row("the last")["status"] == "completed"
    assert july.exit_code == 0
    assert {event["code"] for event in july.system.events("worker ended")} == {0}


def test_an_idle_orchestrator_ends_with_0_too(newest: Run):
    assert newest.exit_code == 0


def test_nothing_is_left_behind(july: Run, newest: Run):
    for run in (july, newest):
        assert not any(left(run))
        assert not list((run.system.folder.parent / "outbox").glob("*"))


# Another process, the same picture


@pytest.mark.parametrize("label", SEEDED)
def test_the_same_job_and_seed_give_the_same_pixels_and_texts_in_another_life(july: Run, newest: Run, label: str):
    first, second = (contents(run, f"seeded {label}") for run in (july, newest))
    assert first
    assert first == second
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("label", SEEDED)
def test_the_seed_of_every_picture_is_reported(july: Run, newest: Run, label: str):
    for run in (july, newest):
        seeds = run.body(f"seeded {label}")["metadata"]["seeds"]
        assert seeds == [SEED + index for index in range(len(seeds))]
