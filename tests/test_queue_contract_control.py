"""What every queue promises to who cancels a job or pauses a queue."""

from __future__ import annotations

import json
from datetime import UTC, datetime
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


def test_progress_of_a_job_is_gone_as_soon_as_its_worker_remembers_how_it_ended(world: World, queue: Any) -> None:
    """What comes next is the terminal status: from then on no progress may be read, whatever is beaten."""
    body = job()
    queue.push(body)
    beat = Beat(claimed(queue).token, id_of(body), {"step": 25})
    queue.beat([beat])
    queue.remember(beat.token, id_of(body), {"assets": []})
    queue.beat([beat])
    assert world.progress(id_of(body)) is None


@pytest.mark.parametrize("ending", ["ack", "bury", "release", "park"])
def test_a_job_that_nobody_works_on_has_no_progress(world: World, queue: Any, ending: str) -> None:
    body = job()
    queue.push(body)
    beat = Beat(claimed(queue).token, id_of(body), {"step": 3})
    queue.beat([beat])
    ENDINGS[ending](queue, beat.token)
    queue.beat([beat])
    assert world.progress(id_of(body)) is None


def test_a_job_cancelled_after_its_worker_died_has_no_progress(world: World, queue: Any) -> None:
    body = job()
    queue.push(body)
    queue.beat([Beat(claimed(queue).token, id_of(body), {"step": 3})])
    world.withdraw(id_of(body))
    world.pass_time(LEASE + 1)
    assert queue.claim(new_token()).withdrawn == (id_of(body),)
    assert world.progress(id_of(body)) is None


def made(second: int) -> tuple[str, float]:
    """A job, and the time at which it says that it was queued."""
    body = json.dumps({**json.loads(job()), "created_at": f"2026-01-01T00:00:{second:02}.000Z"})
    return body, datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC).timestamp()


def test_every_answer_says_how_many_wait_and_since_when_the_first_of_them_does(world: World, queue: Any) -> None:
    (first, _), (second, since), (third, _) = made(1), made(2), made(3)
    for body in (first, second, third):
        queue.push(body)
    reply = queue.claim("a")
    assert (reply.claim.body, reply.waiting, reply.oldest) == (first, 2, since)
    beaten = queue.beat([Beat("a", id_of(first))])
    assert (beaten.waiting, beaten.oldest) == (2, since)


def test_a_job_that_was_given_back_counts_by_its_own_age(queue: Any) -> None:
    (first, since), (second, _) = made(1), made(2)
    queue.push(first)
    queue.push(second)
    assert claimed(queue, "a").body == first
    queue.release("a", counted=False)
    queue.pause()
    assert queue.claim("b").oldest == since


def test_a_job_that_does_not_say_its_age_has_none(queue: Any) -> None:
    queue.push(job())
    queue.pause()
    reply = queue.claim("a")
    assert (reply.waiting, reply.oldest) == (1, None)
