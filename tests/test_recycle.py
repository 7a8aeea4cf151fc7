"""A worker that is worn ends between two jobs, and its supervisor starts a fresh one at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workers.card import gpu
from workers.supervision.wear import GIB, MAX_CARD_GROWTH, Ceilings, Wear

ring2 = pytest.mark.ring2

ROOT = Path(__file__).resolve().parent.parent
NOTHING = (0, 0)


def worn(jobs: int = 1, ceilings: Ceilings | None = None, before=NOTHING, after=NOTHING) -> bool:
    """Whether a process is that held so much memory and so much of the card before and after its jobs."""
    held = list(before)
    wear = Wear(ceilings or Ceilings(), memory=lambda: held[0], card=lambda: held[1])
    wear.begin()
    held[:] = after
    return wear.out(jobs)


def test_without_ceilings_a_worker_does_not_wear():
    assert not worn(10**6, after=(10**15, 0))


def test_the_ceiling_of_jobs_is_reached_with_the_last_of_them():
    assert [worn(jobs, Ceilings(jobs=3)) for jobs in (1, 2, 3, 4)] == [False, False, True, True]


def test_the_ceiling_of_memory_is_a_size_that_may_be_reached():
    assert [worn(1, Ceilings(memory=100), (10, 0), (held, 0)) for held in (99, 100, 101)] == [False, False, True]


def test_a_ceiling_below_a_fresh_process_would_end_every_process_at_once_and_is_none():
    assert not worn(1, Ceilings(memory=100), (100, 0), (500, 0))


def test_the_card_may_keep_one_gib_more_than_a_fresh_worker():
    assert MAX_CARD_GROWTH == GIB
    assert [worn(1, before=(0, 5 * GIB), after=(0, 6 * GIB + more)) for more in (-1, 0, 1)] == [False, False, True]


def test_a_worker_that_has_done_nothing_does_not_end():
    assert not worn(0, Ceilings(jobs=1, memory=1), (0, 0), (10**12, 10**12))


def test_memory_counts_what_this_process_alone_must_hold():
    measured = "from workers.supervision.wear import memory; before = memory(); hoard = bytearray(b'x') * 50_000_000"
    alone = (sys.executable, "-c", f"{measured}; print(memory() - before)")
    assert 40_000_000 < int(subprocess.check_output(alone, cwd=ROOT)) < 80_000_000


def test_without_a_card_nothing_of_it_is_held():
    assert gpu.held("cpu") == 0


@ring2
def test_after_so_many_jobs_a_fresh_worker_goes_on(pod, stack):
    at = pod("orchestrator", recycle_jobs=2)
    for lives in (1, 2):
        jobs = [stack.submit("image_fast", "a red bicycle") for _ in range(2)]
        assert {stack.wait_for(job)["status"] for job in jobs} == {"completed"}
        at.wait_for("worker ended", lives)
    assert stack.wait_for(stack.submit("image_fast", "a red bicycle"))["status"] == "completed"
    assert [(end["code"], end["retry_in"]) for end in at.events("worker ended")] == [(0, 0.0)] * 2
    assert {event["reason"] for event in at.events("recycling")} == {"2 jobs"}
    assert at.end() == 0
    assert at.generations() == 5


@ring2
def test_above_the_ceiling_of_memory_a_fresh_worker_goes_on(pod, stack):
    at = pod("orchestrator", recycle_rss_gb=0.4)
    for _ in range(8):
        stack.wait_for(stack.submit("image_fast", "a squirrel"))
    assert at.wait_for("recycling")["reason"].endswith("GiB of memory")
    at.wait_for("worker started", 2)
    assert at.end() == 0


@ring2
def test_a_worker_that_runs_alone_is_not_recycled(pod, stack):
    at = pod("wan_worker", recycle_jobs=1)
    for _ in range(2):
        assert stack.wait_for(stack.submit("image_fast", "a red bicycle"))["status"] == "completed"
    assert at.process.poll() is None
    assert not at.events("recycling")
    assert at.end() == 0
