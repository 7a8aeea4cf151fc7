"""What every queue promises: the same rules for the one in memory and for the real one behind its REST gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Protocol

import pytest
from queue_bench import LEASE, NAME, connect, id_of, is_stale, job, new_id, new_token, run_down
from support import RunningGateway, wait_until

from workers.claim import Beat, Claim
from workers.errors import ClaimLost
from workers.queue.upstash import UpstashQueue
from workers.testing import MemoryQueue


class World(Protocol):
    """One queue, the time it lives in, and the side of the world that is not a worker."""

    def queue(self, *, take_from: Literal["tail", "head"] = "tail") -> Any: ...
    def pass_time(self, seconds: float) -> None: ...
    def withdraw(self, job_id: str) -> None: ...
    def progress(self, job_id: str) -> Any: ...
    def set_fence_back(self, fence: int) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._passed = 0.0
        self._queues = {end: MemoryQueue(lease=LEASE, take_from=end, clock=self._now) for end in ("tail", "head")}
        self._tail = self._queues["tail"]

    def queue(self, *, take_from: str = "tail") -> MemoryQueue:
        return self._queues[take_from]

    def pass_time(self, seconds: float) -> None:
        self._passed += seconds

    def withdraw(self, job_id: str) -> None:
        self._tail.withdrawn.add(job_id)

    def progress(self, job_id: str) -> Any:
        return self._tail.progress.get(job_id)

    def set_fence_back(self, fence: int) -> None:
        self._tail.fence = fence

    def _now(self) -> float:
        return time.time() + self._passed


class RestWorld:
    def __init__(self, gateway: RunningGateway) -> None:
        self._gateway = gateway
        self._redis = connect(gateway.redis.port)
        self._queues: list[UpstashQueue] = []

    def queue(self, *, take_from: Literal["tail", "head"] = "tail") -> UpstashQueue:
        queue = UpstashQueue(NAME, self._gateway.url, self._gateway.token, lease=LEASE, take_from=take_from)
        self._queues.append(queue)
        return queue

    def pass_time(self, seconds: float) -> None:
        run_down(self._redis, seconds)

    def withdraw(self, job_id: str) -> None:
        self._redis.set(f"cancel:{job_id}", "1", ex=86_400)

    def progress(self, job_id: str) -> Any:
        raw = self._redis.get(f"progress:{job_id}")
        return json.loads(raw) if raw else None

    def set_fence_back(self, fence: int) -> None:
        self._redis.set(f"{NAME}:fence", fence)

    def close(self) -> None:
        for part in (*self._queues, self._redis):
            part.close()


@pytest.fixture(params=["memory", "rest"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    rest = RestWorld(request.getfixturevalue("gateway"))
    yield rest
    rest.close()


@pytest.fixture
def queue(world: World) -> Any:
    return world.queue()


def claimed(queue: Any, token: str | None = None) -> Claim:
    claim = queue.claim(token or new_token()).claim
    assert claim is not None, "nothing to claim"
    return claim


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


ENDINGS: dict[str, Callable[[Any, str], bool]] = {
    "ack": lambda queue, token: queue.ack(token, None),
    "release": lambda queue, token: queue.release(token, counted=True),
    "park": lambda queue, token: queue.park(token, 5.0, counted=True),
    "bury": lambda queue, token: queue.bury(token, "unreadable"),
    "remember": lambda queue, token: queue.remember(token, "some-job", {}),
}


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


def test_a_second_copy_of_a_job_in_work_waits_and_lets_others_pass(world: World, queue: Any) -> None:
    twice, other = job(), job()
    for body in (twice, twice, other):
        queue.push(body)
    claimed(queue, "a")
    assert claimed(queue, "b").body == other
    assert queue.ack("a", id_of(twice))
    assert queue.ack("b", id_of(other))
    world.pass_time(LEASE + 1)
    copy = claimed(queue)
    assert (copy.body, copy.attempt) == (twice, 1)


def test_a_copy_keeps_waiting_while_its_job_is_being_beaten(world: World, queue: Any) -> None:
    twice = job()
    queue.push(twice)
    queue.push(twice)
    token = claimed(queue).token
    for _ in range(5):
        assert queue.claim(new_token()).claim is None
        world.pass_time(LEASE / 2)
        queue.beat([Beat(token, id_of(twice))])
    queue.ack(token, id_of(twice))
    world.pass_time(LEASE + 1)
    assert (claimed(queue).crashes, queue.claim(new_token()).claim) == (0, None)


@pytest.mark.parametrize("ending", ["release", "park"])
def test_a_copy_may_be_claimed_as_soon_as_nobody_works_on_the_job(queue: Any, ending: str) -> None:
    twice = job()
    queue.push(twice)
    claimed(queue, "a")
    queue.push(twice)
    ENDINGS[ending](queue, "a")
    assert claimed(queue).body == twice


def test_a_remembered_result_comes_with_the_next_claim(world: World, queue: Any) -> None:
    body = job()
    queue.push(body)
    record = {"assets": ["u/j/0.png"], "seeds": [2**32 - 1], "guidance": 6.283185307179586, "extra": {}, "none": []}
    assert queue.remember(claimed(queue).token, id_of(body), record)
    world.pass_time(LEASE + 1)
    assert claimed(queue).result == record | {"delivered": False}


def test_an_acknowledged_result_is_marked_delivered_and_kept_for_copies(queue: Any) -> None:
    body = job()
    queue.push(body)
    token = claimed(queue).token
    queue.remember(token, id_of(body), {"assets": ["u/j/0.png"]})
    queue.ack(token, id_of(body))
    queue.push(body)
    assert claimed(queue).result == {"assets": ["u/j/0.png"], "delivered": True}


def test_an_acknowledged_job_without_a_result_leaves_none(queue: Any) -> None:
    body = job()
    queue.push(body)
    queue.ack(claimed(queue).token, id_of(body))
    queue.push(body)
    assert claimed(queue).result is None


SHAPES: dict[str, Callable[[str], str]] = {
    "an object": lambda one: json.dumps({"id": one}),
    "a list of one string": lambda one: json.dumps([json.dumps({"id": one})]),
    "a list of one object": lambda one: json.dumps([{"id": one}]),
    "data as a string": lambda one: json.dumps({"data": json.dumps({"id": one})}),
    "data as an object": lambda one: json.dumps({"data": {"id": one}}),
    "a string": lambda one: json.dumps(json.dumps({"id": one})),
    "a string of a list of a string": lambda one: json.dumps(json.dumps([json.dumps({"id": one})])),
    "job_id": lambda one: json.dumps({"job_id": one, "job_type": "sdxl_image_fast"}),
    "jobId": lambda one: json.dumps({"jobId": one, "jobType": "sdxl_image_fast"}),
    "both spellings": lambda one: json.dumps({"id": one, "job_id": one, "data": None}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_job_id_is_found_in_every_shape_that_producers_send(queue: Any, shape: str) -> None:
    job_id = new_id()
    queue.push(SHAPES[shape](job_id))
    token = claimed(queue).token
    queue.remember(token, job_id, {"assets": []})
    queue.release(token, counted=False)
    assert claimed(queue).result == {"assets": [], "delivered": False}


NOT_JOBS = ["", "nonsense", "null", "5", "[]", "{}", '{"id":null}', '{"id":5}', '{"id":["a"]}', "[" * 2000, '{"id":"']


@pytest.mark.parametrize("body", NOT_JOBS)
def test_what_holds_no_job_id_is_claimed_all_the_same(queue: Any, body: str) -> None:
    queue.push(body)
    queue.push(body)
    assert [claimed(queue).body, claimed(queue).body] == [body, body]


def test_a_buried_job_lies_in_the_dead_list_until_it_is_put_back(world: World, queue: Any) -> None:
    body = job()
    queue.push(body)
    claimed(queue, "a")
    assert queue.bury("a", 'said "no"\nand died', id_of(body))
    world.pass_time(LEASE + 1)
    assert queue.claim(new_token()).claim is None
    (entry,) = queue.dead()
    assert (entry.body, entry.job_id, entry.reason) == (body, id_of(body), 'said "no"\nand died')
    assert abs(entry.at - time.time()) < 2 * LEASE
    assert queue.requeue(entry.id)
    assert not queue.requeue(entry.id)
    assert queue.dead() == []
    claim = claimed(queue)
    assert (claim.body, claim.attempt) == (body, 1)


def test_the_dead_list_is_read_in_pages_newest_first(queue: Any) -> None:
    for number in range(5):
        queue.push(job())
        queue.bury(claimed(queue).token, str(number))
    assert [entry.reason for entry in queue.dead(1, 2)] == ["3", "2"]


def test_expired_tokens_give_their_jobs_back_at_once(queue: Any) -> None:
    queue.push(job())
    claimed(queue, "a")
    assert queue.expire(["a", "never"]) == 1
    assert queue.expire([]) == 0
    claim = claimed(queue, "b")
    assert (claim.attempt, claim.crashes) == (2, 1)
    assert is_stale(queue, "a")


def test_a_parked_job_outlives_the_death_of_who_parked_it(queue: Any) -> None:
    queue.push(job())
    claimed(queue, "a")
    queue.park("a", 300, counted=False)
    assert queue.expire(["a"]) == 0
    assert queue.claim("b").claim is None


def test_two_workers_never_hold_one_job(world: World) -> None:
    bodies = [job() for _ in range(60)]
    producer = world.queue()
    for body in bodies:
        producer.push(body)

    def work(queue: Any) -> list[str]:
        done: list[str] = []
        while claim := queue.claim(new_token()).claim:
            assert queue.ack(claim.token, id_of(claim.body))
            done.append(claim.body)
        return done

    with ThreadPoolExecutor(4) as pool:
        done = [body for part in pool.map(work, [world.queue() for _ in range(4)]) for body in part]
    assert sorted(done) == sorted(bodies)
