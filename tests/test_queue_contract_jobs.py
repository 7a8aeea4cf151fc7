"""What every queue promises of a job's copies, its result, its shape and its end in the dead list."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from queue_bench import LEASE, claimed, id_of, is_stale, job, new_id, new_token
from queue_worlds import ENDINGS, World

from workers.claim import Beat


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


@pytest.mark.parametrize("ending", ["release", "park"])
def test_a_remembered_result_may_take_the_place_of_the_body(world: World, queue: Any, ending: str) -> None:
    body = job()
    queue.push(body)
    left = json.dumps({"id": id_of(body)})
    assert queue.remember(claimed(queue, "a").token, id_of(body), {"status": "failed"}, left)
    ENDINGS[ending](queue, "a")
    world.pass_time(LEASE + 1)
    claim = claimed(queue)
    assert (claim.body, claim.result) == (left, {"status": "failed", "delivered": False})


def test_without_a_claim_nothing_takes_the_place_of_a_body(world: World, queue: Any) -> None:
    body = job()
    queue.push(body)
    claimed(queue, "a")
    world.pass_time(LEASE + 1)
    assert claimed(queue, "b").body == body
    assert not queue.remember("a", id_of(body), {"status": "failed"}, "{}")
    queue.release("b", counted=False)
    assert claimed(queue).body == body


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


def test_a_job_put_back_from_the_dead_list_is_made_anew(queue: Any) -> None:
    body = job()
    queue.push(body)
    queue.remember(claimed(queue, "a").token, id_of(body), {"status": "failed"})
    queue.bury("a", "given up", id_of(body))
    queue.requeue(queue.dead()[0].id)
    assert claimed(queue).result is None


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
