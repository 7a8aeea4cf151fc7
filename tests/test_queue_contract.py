"""What every queue promises of claims, leases and endings: the same for the one in memory and the real one."""

from __future__ import annotations

import time
from typing import Any, Literal

import pytest
from queue_bench import LEASE, claimed, id_of, is_stale, job, new_id, new_token
from queue_worlds import ENDINGS, World
from support import wait_until

from workers.claim import Beat
from workers.errors import ClaimLost


@pytest.mark.parametrize("end", ["tail", "head"])
def test_jobs_are_served_in_the_order_they_came(world: World, end: Literal["tail", "head"]) -> None:
    queue = world.queue(take_from=end)
    bodies = [job() for _ in range(3)]
    assert [queue.push(body) for body in bodies] == [1, 2, 3]
    assert [claimed(queue).body for _ in bodies] == bodies


def test_an_empty_queue_says_so(queue: Any) -> None:
    reply = queue.claim(new_token())
    assert (reply.claim, reply.waiting, reply.in_flight, reply.next_expiry) == (None, 0, 0, None)


def test_a_claim_tells_what_the_queue_looks_like(queue: Any) -> None:
    for _ in range(3):
        queue.push(job())
    claimed(queue)
    reply = queue.claim(new_token())
    assert (reply.waiting, reply.in_flight) == (1, 2)
    assert LEASE - 10 < reply.next_expiry <= LEASE
    assert queue.waiting() == 1


def test_a_job_comes_with_its_first_attempt_and_no_crash(queue: Any) -> None:
    body = job()
    queue.push(body)
    claim = claimed(queue, "a")
    assert (claim.token, claim.body, claim.attempt, claim.crashes, claim.result) == ("a", body, 1, 0, None)


def test_a_claim_whose_reply_was_lost_is_repeated_and_returns_the_same_job(queue: Any) -> None:
    queue.push(job())
    queue.push(job())
    first = claimed(queue, "a")
    assert claimed(queue, "a") == first
    assert queue.waiting() == 1


def test_a_repeated_claim_renews_its_lease(world: World, queue: Any) -> None:
    queue.push(job())
    first = claimed(queue, "a")
    world.pass_time(30)
    claimed(queue, "a")
    world.pass_time(30)
    assert queue.claim("b").claim is None
    assert claimed(queue, "a") == first


def test_a_token_that_claimed_nothing_may_claim_later(queue: Any) -> None:
    assert queue.claim("a").claim is None
    queue.push(job())
    assert claimed(queue, "a").attempt == 1


def test_a_lease_that_ended_lets_the_job_be_claimed_again_with_a_crash_counted(world: World, queue: Any) -> None:
    body = job()
    queue.push(body)
    claimed(queue)
    world.pass_time(LEASE + 1)
    again = claimed(queue)
    assert (again.body, again.attempt, again.crashes) == (body, 2, 1)


def test_jobs_of_the_dead_are_served_before_new_ones(world: World, queue: Any) -> None:
    bodies = [job() for _ in range(3)]
    for body in bodies:
        queue.push(body)
    claimed(queue), claimed(queue)
    world.pass_time(LEASE + 1)
    assert [claimed(queue).body for _ in bodies] == bodies


def test_a_beat_keeps_every_claim_of_a_worker_alive(world: World, queue: Any) -> None:
    queue.push(job())
    queue.push(job())
    tokens = [claimed(queue).token, claimed(queue).token]
    for _ in range(4):
        world.pass_time(LEASE / 2)
        assert queue.beat([Beat(token) for token in tokens]).lost == frozenset()
    assert queue.claim(new_token()).claim is None


def test_a_beat_says_which_claims_are_lost(world: World, queue: Any) -> None:
    queue.push(job())
    queue.push(job())
    claimed(queue, "a")
    world.pass_time(LEASE + 1)
    claimed(queue, "b")
    assert queue.beat([Beat("a"), Beat("b"), Beat("never")]).lost == {"a", "never"}


def test_a_worker_that_was_only_late_keeps_a_job_that_nobody_took(world: World, queue: Any) -> None:
    queue.push(job())
    claimed(queue, "a")
    world.pass_time(LEASE + 1)
    assert queue.beat([Beat("a")]).lost == frozenset()
    assert queue.claim("b").claim is None


def test_a_beat_of_nothing_answers_nothing(queue: Any) -> None:
    reply = queue.beat([])
    assert not reply.lost
    assert not reply.cancelled


def test_a_beat_names_the_claims_whose_jobs_were_withdrawn(world: World, queue: Any) -> None:
    jobs = [new_id(), new_id()]
    for one in jobs:
        queue.push(job(one))
    beats = [Beat(claimed(queue).token, one) for one in jobs]
    world.withdraw(jobs[1])
    assert queue.beat(beats).cancelled == {beats[1].token}


def test_a_beat_publishes_progress(world: World, queue: Any) -> None:
    body = job()
    queue.push(body)
    queue.beat([Beat(claimed(queue).token, id_of(body), {"step": 3, "steps": 25})])
    assert world.progress(id_of(body)) == {"step": 3, "steps": 25}


def test_a_lost_claim_publishes_no_progress(world: World, queue: Any) -> None:
    queue.beat([Beat("never", "some-job", {"step": 3})])
    assert world.progress("some-job") is None


def test_an_acknowledged_job_never_comes_back(world: World, queue: Any) -> None:
    body = job()
    queue.push(body)
    claimed(queue, "a")
    assert queue.ack("a", id_of(body))
    world.pass_time(LEASE + 1)
    assert queue.claim(new_token()).claim is None


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_is_refused_to_who_does_not_hold_the_claim(world: World, queue: Any, ending: str) -> None:
    queue.push(job())
    claimed(queue, "a")
    world.pass_time(LEASE + 1)
    claimed(queue, "b")
    assert not ENDINGS[ending](queue, "a")
    assert not ENDINGS[ending](queue, "never")
    assert queue.beat([Beat("b")]).lost == frozenset()


@pytest.mark.parametrize("ending", ["ack", "release", "park", "bury"])
def test_an_ending_takes_effect_once_and_its_token_never_claims_again(queue: Any, ending: str) -> None:
    queue.push(job())
    queue.push(job())
    claimed(queue, "a")
    assert ENDINGS[ending](queue, "a")
    before = queue.waiting()
    assert not ENDINGS[ending](queue, "a")
    assert is_stale(queue, "a")
    assert queue.waiting() == before


def test_a_stale_token_never_takes_a_job_nor_overwrites_one(world: World) -> None:
    """X dies with A; Y claims B and never hears of it; both are taken back; Y repeats its claim."""
    x, y, z = world.queue(), world.queue(), world.queue()
    a, b = job(), job()
    x.push(a)
    x.push(b)
    claimed(x, "x-token")
    claimed(y, "y-token")
    world.pass_time(LEASE + 1)
    assert claimed(z, "z-token").body == a
    z.release("z-token", counted=False)
    with pytest.raises(ClaimLost):
        y.claim("y-token")
    assert {claimed(y).body, claimed(z).body} == {a, b}
    assert y.claim(new_token()).claim is None


def test_fences_only_rise_also_when_the_counter_was_set_back(world: World, queue: Any) -> None:
    for _ in range(4):
        queue.push(job())
    fences = [claimed(queue).fence for _ in range(3)]
    world.set_fence_back(0)
    wait_until(lambda: time.time_ns() // 1_000_000 > fences[-1])
    fences.append(claimed(queue).fence)
    assert fences == sorted(set(fences))


def test_a_fence_stays_ahead_of_a_clock_that_runs_behind(world: World, queue: Any) -> None:
    ahead = (time.time_ns() // 1_000_000) + 10**9
    queue.push(job())
    world.set_fence_back(ahead)
    assert claimed(queue).fence > ahead


def test_a_released_job_goes_to_the_head(queue: Any) -> None:
    bodies = [job() for _ in range(3)]
    for body in bodies:
        queue.push(body)
    claimed(queue, "a"), claimed(queue, "b")
    queue.release("a", counted=False)
    queue.release("b", counted=False)
    assert [claimed(queue).body for _ in bodies] == [bodies[1], bodies[0], bodies[2]]


@pytest.mark.parametrize(("counted", "attempt"), [(True, 2), (False, 1)])
def test_a_release_costs_an_attempt_only_when_counted(queue: Any, counted: bool, attempt: int) -> None:
    queue.push(job())
    queue.release(claimed(queue).token, counted=counted)
    claim = claimed(queue)
    assert (claim.attempt, claim.crashes) == (attempt, 0)


@pytest.mark.parametrize(("counted", "attempt"), [(True, 2), (False, 1)])
def test_a_parked_job_waits_for_its_delay_and_that_is_no_crash(
    world: World, queue: Any, counted: bool, attempt: int
) -> None:
    queue.push(job())
    assert queue.park(claimed(queue).token, 300, counted=counted)
    reply = queue.claim("b")
    assert (reply.claim, reply.in_flight) == (None, 0)
    assert 290 < reply.next_expiry <= 300
    world.pass_time(301)
    claim = claimed(queue, "b")
    assert (claim.attempt, claim.crashes) == (attempt, 0)


def test_crashes_are_kept_when_a_job_is_given_back(world: World, queue: Any) -> None:
    queue.push(job())
    claimed(queue)
    world.pass_time(LEASE + 1)
    queue.release(claimed(queue).token, counted=False)
    queue.park(claimed(queue).token, 1, counted=False)
    world.pass_time(2)
    claim = claimed(queue)
    assert (claim.attempt, claim.crashes) == (2, 1)
