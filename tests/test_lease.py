"""Claims are kept alive while their work moves, and asked about before every effect outside."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from support import wait_until

from workers.claim import Beat, BeatReply, Claim
from workers.errors import Cancelled, ClaimLost, Unreachable
from workers.lease import FRESH, Leases
from workers.watch import Watch

HOUR = 3600.0


class Beats:
    """A queue that notes its beats and answers what it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[Beat]] = []
        self.lost: set[str] = set()
        self.cancelled: set[str] = set()
        self.away = False
        self.waiting: int | None = None

    def beat(self, beats: list[Beat]) -> BeatReply:
        self.calls.append(list(beats))
        if self.away:
            raise Unreachable("no answer")
        beaten = {beat.token for beat in beats}
        return BeatReply(frozenset(self.lost & beaten), frozenset(self.cancelled & beaten), self.waiting, 5.0)

    @property
    def tokens(self) -> list[set[str]]:
        return [{beat.token for beat in beats} for beats in self.calls]


@pytest.fixture
def queue() -> Beats:
    return Beats()


@pytest.fixture
def leases(queue) -> Leases:
    return Leases(queue, interval=10.0)


@pytest.fixture
def unhurried(queue, monkeypatch) -> Leases:
    """Takes an hour for the second that makes an answer old: a second may pass between any two lines."""
    monkeypatch.setattr("workers.lease.FRESH", HOUR)
    return Leases(queue, interval=10 * HOUR)


def claim(age: float = 0.0) -> Claim:
    """A claim that was asked for so many seconds ago."""
    return Claim(uuid.uuid4().hex, "{}", attempt=1, crashes=0, fence=1, asked=time.monotonic() - age)


def held(leases: Leases, age: float = 2 * FRESH, watch: Watch | None = None) -> Claim:
    ours = claim(age)
    leases.hold(ours, "b91f", watch or Watch())
    return ours


# Before an effect outside


def test_a_claim_as_young_as_a_second_needs_no_question(unhurried, queue):
    unhurried.confirm(held(unhurried, age=0.0).token)
    assert not queue.calls


def test_an_older_claim_is_asked_about_once_a_second_at_most(unhurried, queue):
    ours = held(unhurried, age=2 * HOUR)
    for _ in range(3):
        unhurried.confirm(ours.token)
    assert queue.tokens == [{ours.token}]


def test_a_claim_of_unknown_age_is_asked_about(leases, queue):
    ours = Claim("a" * 32, "{}", attempt=1, crashes=0, fence=1)
    leases.hold(ours, None, Watch())
    leases.confirm(ours.token)
    assert queue.tokens == [{ours.token}]


def test_a_short_lease_makes_an_answer_old_sooner(queue):
    leases = Leases(queue, interval=FRESH / 10)
    leases.confirm(held(leases, age=FRESH / 2).token)
    assert len(queue.calls) == 1


@pytest.mark.parametrize(("kind", "error"), [("lost", ClaimLost), ("cancelled", Cancelled)])
def test_what_ended_meanwhile_has_no_effect_any_more(leases, queue, kind, error):
    ours = held(leases)
    getattr(queue, kind).add(ours.token)
    for _ in range(2):
        with pytest.raises(error):
            leases.confirm(ours.token)


def test_a_claim_that_was_let_go_has_no_effect_any_more(leases):
    ours = held(leases)
    leases.let_go(ours.token)
    with pytest.raises(ClaimLost):
        leases.confirm(ours.token)


def test_while_nobody_can_say_nothing_is_done(leases, queue):
    ours = held(leases)
    queue.away = True
    with pytest.raises(Unreachable):
        leases.confirm(ours.token)
    queue.away = False
    leases.confirm(ours.token)


def test_an_answer_is_as_old_as_its_question(queue):
    """The lease runs from when redis renewed it, which may be long before the answer is here."""
    leases, answer = Leases(queue, interval=0.02), queue.beat

    def late(beats: list[Beat]) -> BeatReply:
        reply = answer(beats)
        time.sleep(0.03)
        return reply

    queue.beat = late
    ours = held(leases)
    for _ in range(2):
        leases.confirm(ours.token)
    assert len(queue.calls) == 2


# While work goes on


def test_all_claims_are_renewed_in_one_command_with_their_progress(leases, queue):
    watch = Watch()
    first, second = held(leases, watch=watch), held(leases)
    with watch.phase("denoise"):
        watch.step(5, 20)
        leases.beat_all()
    (beats,) = queue.calls
    told = {beat.token: beat.progress for beat in beats}
    assert told[first.token] == {"phase": "denoise", "step": 5, "steps": 20, "percent": 25}
    assert told[second.token]["percent"] == 0


def test_progress_says_how_long_the_job_still_takes_once_such_jobs_are_known(leases, queue):
    watch = Watch(clock=lambda: 100.0)
    watch.expected = {"denoise": 30.0, "upload": 10.0}
    watch.timings["denoise"] = 10.0
    held(leases, watch=watch)
    leases.beat_all()
    ((beat,),) = queue.calls
    assert (beat.progress["left"], beat.progress["overall"]) == (10.0, 50)


def test_a_beat_says_what_waits_in_the_queue(leases, queue):
    queue.waiting = 7
    held(leases)
    leases.beat_all()
    assert (leases.sight.waiting, leases.sight.oldest) == (7, 5.0)


def test_a_claim_whose_work_hangs_is_not_renewed(leases, queue):
    now = [0.0]
    hung, moving = Watch(clock=lambda: now[0]), Watch()
    held(leases, watch=hung)
    other = held(leases, watch=moving)
    with hung.phase("callback"):
        now[0] = 31.0
        leases.beat_all()
        assert queue.tokens[-1] == {other.token}
        hung.step(1, 2)
        leases.beat_all()
    assert len(queue.tokens[-1]) == 2


@pytest.mark.parametrize(("kind", "error"), [("lost", ClaimLost), ("cancelled", Cancelled)])
def test_what_the_queue_took_away_stops_at_its_next_step_and_the_rest_goes_on(leases, queue, kind, error):
    ours, others = Watch(), Watch()
    getattr(queue, kind).add(held(leases, watch=ours).token)
    held(leases, watch=others)
    leases.beat_all()
    with pytest.raises(error):
        ours.step(1, 20)
    others.step(1, 20)


def test_a_claim_goes_on_with_the_watch_of_the_thread_that_has_it(leases, queue):
    making, delivering = Watch(), Watch()
    ours = held(leases, watch=making)
    leases.hold(ours, "b91f", delivering)
    queue.lost.add(ours.token)
    leases.beat_all()
    assert (making.aborted, delivering.aborted) == (False, True)


def test_an_unreachable_queue_ends_nothing(leases, queue):
    watch = Watch()
    held(leases, watch=watch)
    queue.away = True
    leases.beat_all()
    assert not watch.aborted
    assert leases.tokens


def test_without_claims_nothing_is_asked(leases, queue):
    leases.beat_all()
    assert not queue.calls


def test_the_thread_beats_at_its_interval_and_ticks_more_often(queue):
    leases, ticks = Leases(queue, interval=0.04), []
    held(leases)
    leases.start(lambda: ticks.append(time.monotonic()))
    wait_until(lambda: len(queue.calls) >= 3)
    leases.close()
    assert len(ticks) >= len(queue.calls)


def test_a_thread_that_cannot_go_on_ends_the_process(queue, monkeypatch):
    ended, codes = threading.Event(), []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr("workers.lease.os._exit", end)
    Leases(queue, interval=0.02).start(lambda: 1 / 0)
    assert ended.wait(5)
    assert codes == [72]
