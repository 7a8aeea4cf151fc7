"""Real workers die, hang and lose their connections; what the outside saw of it keeps every promise.

The long forms with tables are `make chaos` and `make chaos-network`.
"""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from bench.chaos.crashes import KILLED, crash_once, tasks_of
from bench.chaos.failover import fail_over
from bench.chaos.history import check
from bench.chaos.hung import POINTS as FREEZING
from bench.chaos.hung import freeze_once, freezes_of
from bench.chaos.lane import UNHURRIED, Lane
from bench.chaos.lanes import Lanes
from bench.chaos.network import storm
from bench.chaos.nursery import ROOT, Nursery
from bench.chaos.scenes import SCENES
from workers import crash

TRIALS = 4
"""Both kinds with both volumes."""

JOBS = 120
HANGS = "a frozen lake"


def chaos(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.ring2(pytest.mark.chaos(test))


# The points


def points_in_the_code() -> list[str]:
    """The argument of every `crash.point(…)`."""
    trees = [ast.parse(file.read_text()) for file in ROOT.glob("workers/**/*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [ast.literal_eval(call.args[0]) for call in calls if ast.unparse(call.func) == "crash.point"]


def test_every_named_point_is_in_the_code_once_and_every_point_in_the_code_has_a_name():
    assert sorted(points_in_the_code()) == sorted(crash.POINTS)


def test_every_point_can_be_reached():
    assert SCENES.keys() == crash.POINTS.keys()


def test_in_production_a_point_is_an_empty_function():
    assert crash.VARIABLE not in os.environ
    assert not crash.point.__code__.co_names


def test_a_point_strikes_when_it_is_passed_for_the_time_that_was_asked_for():
    passed, struck = [], []
    point = crash.armed("sealed:3", lambda: struck.append(len(passed)))
    for name in ("sealed", "made", "sealed", "sealed", "sealed"):
        passed.append(name)
        point(name)
    assert struck == [4]


def test_a_point_that_does_not_exist_is_refused_at_once():
    with pytest.raises(ValueError, match="no point named nowhere"):
        crash.armed("nowhere", lambda: None)


def test_the_variable_makes_a_process_kill_itself():
    code = "from workers import crash; crash.point('made'); crash.point('sealed'); print('alive')"
    child = subprocess.run([sys.executable, "-c", code], env=os.environ | {crash.VARIABLE: "sealed"}, cwd=ROOT)
    assert child.returncode == KILLED


# Death


@pytest.fixture(scope="module")
def lanes(nursery: Nursery) -> Iterator[Lanes]:
    with Lanes(6, nursery) as lanes:
        yield lanes


@pytest.fixture
def lane(nursery: Nursery) -> Iterator[Lane]:
    with Lane(nursery) as lane:
        yield lane


@chaos
@pytest.mark.parametrize("point", SCENES)
def test_a_worker_that_dies_there_loses_nothing_repeats_no_effect_and_leaves_no_key(lanes: Lanes, point: str):
    for trial in lanes.run(functools.partial(crash_once, seen=True), tasks_of([point], TRIALS)):
        assert not trial.findings
        assert not trial.leftovers


# Hanging


@chaos
def test_a_worker_that_was_frozen_past_its_lease_has_no_effect_when_it_thaws(lanes: Lanes):
    frozen = list(lanes.run(freeze_once, freezes_of(2 * len(FREEZING))))
    assert [freeze for freeze in frozen if freeze.findings] == []


@chaos
def test_without_the_fence_that_is_noticed(lanes: Lanes):
    """The test of the test: the same trials find a planted bug."""
    tasks = [task for task in freezes_of(2 * len(FREEZING)) if task.scene.point in ("parsed", "unsealed", "remembered")]
    frozen = lanes.run(functools.partial(freeze_once, planted=True), tasks)
    assert {"stale", "overwritten"} & {finding.rule for freeze in frozen for finding in freeze.findings}


@chaos
def test_a_worker_that_hangs_in_one_step_loses_its_job_although_its_beating_thread_lives(lane: Lane):
    (job,) = [lane.submit("wan", HANGS)]
    hung = lane.start("wan", evil=[HANGS], step_limit=0.5)
    lane.wait_until(lambda: hung.beat and hung.beat.job == job, "hanging")
    lane.start("wan", evil=[], lease=UNHURRIED)
    lane.wait_until(lane.is_settled, "taken over")
    lane.wait_until(lambda: hung.beat and hung.beat.age() < 1.0, "still beating")
    assert hung.code is None
    assert not check(lane.history())


@chaos
def test_the_supervisor_kills_a_worker_without_progress_and_its_job_waits_for_no_lease(lane: Lane):
    lane.submit("wan", HANGS)
    lane.start("wan", supervised=True, lease=60.0, evil=[HANGS], step_limit=0.5)
    lane.wait_until(lane.is_settled, "finished by the next life")
    assert not check(lane.history())


# A lossy network


@chaos
def test_through_a_lossy_network_every_acknowledged_job_comes_to_one_end(nursery: Nursery):
    passed = storm(nursery, jobs=JOBS, seed=1)
    assert not passed.findings
    assert not passed.leftovers
    assert passed.completed + passed.failed == passed.acknowledged == JOBS
    assert all(passed.struck.get(kind) for kind in ("lost_request", "lost_reply", "latency", "error"))


@chaos
@pytest.mark.parametrize("reconciles", [True, False])
def test_a_redis_from_an_older_copy_loses_no_job_as_long_as_somebody_compares(nursery: Nursery, reconciles: bool):
    passed = fail_over(nursery, jobs=40, reconciles=reconciles)
    assert passed.set_back >= 2
    assert {finding.rule for finding in passed.findings} == (set() if reconciles else {"lost"})
