"""What every queue promises to who cancels a job or pauses a queue."""

from __future__ import annotations

from typing import Any

import pytest
from queue_bench import LEASE, claimed, id_of, job, new_id, new_token
from queue_worlds import ENDINGS, World

from workers.claim import Beat


def test_a_job_cancelled_before_its_claim_never_runs(world: World, queue: Any) -> None:
    cancelled, other = new_id(), job()
    queue.push(job(cancelled))
    queue.push(other)
    world.withdraw(cancelled)
    reply = queue.claim(new_token())
    assert (reply.claim.body, reply.withdrawn, reply.waiting) == (other, (cancelled,), 0)
    world.pass_time(LEASE + 1)
    assert (claimed(queue).body, queue.claim(new_token()).claim) == (other, None)


@pytest.mark.parametrize("ending", ["release", "park"])
def test_a_job_cancelled_after_it_was_given_back_never_runs_again(world: World, queue: Any, ending: str) -> None:
    cancelled = new_id()
    queue.push(job(cancelled))
    ENDINGS[ending](queue, claimed(queue).token)
    world.withdraw(cancelled)
    world.pass_time(LEASE + 1)
    reply = queue.claim(new_token())
    assert (reply.claim, reply.withdrawn, reply.in_flight, reply.waiting) == (None, (cancelled,), 0, 0)


def test_a_job_of_the_dead_that_was_cancelled_never_runs_again(world: World, queue: Any) -> None:
    cancelled = new_id()
    queue.push(job(cancelled))
    claimed(queue)
    world.withdraw(cancelled)
    world.pass_time(LEASE + 1)
    assert queue.claim(new_token()).withdrawn == (cancelled,)


def test_a_job_cancelled_in_work_stays_claimed_until_its_worker_lets_go(world: World, queue: Any) -> None:
    cancelled = new_id()
    queue.push(job(cancelled))
    claim = claimed(queue, "a")
    world.withdraw(cancelled)
    assert claimed(queue, "a") == claim
    assert queue.beat([Beat("a", cancelled)]).cancelled == {"a"}
    assert queue.ack("a", cancelled)


def test_a_paused_queue_gives_no_job_until_it_is_resumed(queue: Any) -> None:
    body = job()
    queue.push(body)
    queue.pause()
    reply = queue.claim("a")
    assert (reply.claim, reply.paused, reply.waiting) == (None, True, 1)
    assert queue.resume()
    reply = queue.claim("a")
    assert (reply.claim.body, reply.paused) == (body, False)


def test_pausing_takes_nothing_from_who_holds_a_claim(world: World, queue: Any) -> None:
    body = job()
    queue.push(body)
    claim = claimed(queue, "a")
    queue.pause()
    assert claimed(queue, "a") == claim
    assert queue.beat([Beat("a", id_of(body))]).lost == frozenset()
    assert queue.remember("a", id_of(body), {"assets": []})
    assert queue.ack("a", id_of(body))


def test_a_paused_queue_still_takes_jobs_back_from_the_dead(world: World, queue: Any) -> None:
    queue.push(job())
    claimed(queue)
    queue.pause()
    world.pass_time(LEASE + 1)
    reply = queue.claim(new_token())
    assert (reply.claim, reply.waiting, reply.in_flight) == (None, 1, 0)


def test_resuming_a_queue_that_is_not_paused_does_nothing(queue: Any) -> None:
    assert not queue.resume()
