"""The next job is claimed while the present one is made, so that the card does not wait for a queue far away."""

from __future__ import annotations

import threading

import pytest

from tests.support import wait_until
from tests.workbench import Bench, payload
from workers.claiming import Claimer
from workers.errors import Unreachable
from workers.stop import Stop
from workers.testing.fakes import FakeEngine
from workers.testing.queue import MemoryQueue

HELD_UP = "a frozen lake"
LEASE = 45.0


@pytest.fixture
def gate():
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def bench(tmp_path, gate):
    """A worker whose first job stays in its second step until the gate opens, and a second job that waits."""
    made: list[Bench] = []

    def hold(watch) -> None:
        watch.step(1, 2)
        gate.wait(60)

    def make(*, queue: MemoryQueue | None = None, **parts: object) -> Bench:
        at = Bench(tmp_path, queue=queue or MemoryQueue(), engine=FakeEngine(steps=2, evil={HELD_UP: hold}), **parts)
        at.push(payload(prompt=HELD_UP), payload(prompt="a red bicycle"))
        made.append(at)
        return at.start()

    yield make
    gate.set()
    for at in made:
        at.finish()


def test_the_next_job_is_claimed_before_the_present_one_is_made(bench, gate):
    at = bench()
    wait_until(lambda: at.queue.waiting() == 0)
    gate.set()
    assert [outcome.status for outcome in at.ends(2)] == ["completed", "completed"]


def test_the_supervisor_is_told_of_a_claim_made_ahead_so_that_it_can_end_its_lease(bench):
    at = bench()
    wait_until(lambda: at.queue.waiting() == 0)
    (ahead,) = at.claimer.tokens
    assert ahead not in at.leases.tokens


def test_asked_to_stop_a_worker_gives_the_next_job_back_at_once_and_uncounted(bench, gate):
    at = bench()
    wait_until(lambda: at.queue.waiting() == 0)
    at.stop.request()
    gate.set()
    assert at.finish() == 0
    assert at.queue.claim("a" * 32).claim.attempt == 1


def test_nothing_is_claimed_beside_a_job_that_may_have_ended_a_worker_before(bench, gate):
    queue = MemoryQueue()
    queue.push(payload(prompt=HELD_UP))
    queue.claim("a" * 32)
    queue.expire(["a" * 32])
    at = bench(queue=queue)
    wait_until(lambda: at.worker.watch.done == 1)
    assert (at.claimer.tokens, queue.waiting()) == ((), 2)


class Distant(MemoryQueue):
    """Counts questions by token; loses as many replies to questions asked ahead as it is told."""

    def __init__(self, lost: int = 0) -> None:
        super().__init__(lease=LEASE)
        self.tokens: list[str] = []
        self.lost = lost

    def claim(self, token: str):
        reply = super().claim(token)
        self.tokens.append(token)
        if threading.current_thread().name == "look-ahead" and self.lost:
            self.lost -= 1
            raise Unreachable("no answer")
        return reply


def claimer(queue: Distant) -> Claimer:
    made = Claimer(queue, Stop(), poll=0.01, lease=LEASE)
    for _ in range(3):
        queue.push(payload())
    assert made.next(lambda: None) is not None
    return made


def look(made: Claimer) -> None:
    made.look_ahead()
    wait_until(lambda: not made._ahead.is_alive())


def test_a_claim_made_ahead_costs_one_command_like_any_other():
    queue = Distant()
    made = claimer(queue)
    look(made)
    assert made.next(lambda: None).token == queue.tokens[-1]
    assert len(queue.tokens) == 2


def test_a_claim_whose_reply_was_lost_is_found_by_its_token():
    queue = Distant(lost=1)
    made = claimer(queue)
    look(made)
    claim = made.next(lambda: None)
    assert queue.tokens[-2:] == [claim.token, claim.token]
    assert queue.waiting() == 1


def test_a_claim_that_waited_for_half_its_lease_is_renewed_before_it_is_served():
    queue = Distant()
    made = claimer(queue)
    look(made)
    made._ahead.asked -= LEASE / 2
    made.next(lambda: None)
    assert queue.tokens[-1] == queue.tokens[-2]


def test_an_idle_queue_is_not_asked_ahead():
    queue = Distant()
    queue.push(payload())
    made = Claimer(queue, Stop(), poll=0.01, lease=LEASE)
    made.next(lambda: None)
    made.look_ahead()
    assert made.tokens == ()


def test_what_was_claimed_ahead_is_given_back_once():
    queue = Distant()
    made = claimer(queue)
    look(made)
    made.give_back()
    made.give_back()
    assert (made.tokens, queue.waiting()) == ((), 2)
