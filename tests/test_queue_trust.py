"""An idle worker asks seldom while it can rely on hearing of new jobs, and as often as before when it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from workers.claim import Claim, ClaimReply
from workers.queue.wake import SLOW, Trust

POLL = 2.0
EMPTY = ClaimReply(None, waiting=0, in_flight=0)


def found(**facts: Any) -> ClaimReply:
    claim = Claim("token", "{}", **({"attempt": 1, "crashes": 0, "fence": 1} | facts))
    return ClaimReply(claim, waiting=0, in_flight=1)


class Day:
    """A worker's trust in announcements, told what happens in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.trust = Trust(POLL, lambda: self.now)

    def asks(self, reply: ClaimReply = EMPTY, after: float = 1.0) -> float:
        self.now += after
        return self.trust.pause_after(reply, self.now)

    def hears(self) -> None:
        self.now += 1
        self.trust.hear()


@pytest.fixture
def day() -> Day:
    """It listens, and one job came as announced."""
    day = Day()
    day.trust.listen()
    day.asks()
    day.hears()
    day.asks(found())
    return day


def test_nobody_relies_on_announcements_before_one_came_true() -> None:
    day = Day()
    assert day.asks() == POLL
    day.trust.listen()
    assert day.asks() == POLL
    day.hears()
    assert day.asks(found()) == SLOW


def test_an_idle_worker_that_hears_of_jobs_asks_once_a_minute(day: Day) -> None:
    assert day.asks() == 60.0


def test_a_jobs_announcement_may_come_just_after_its_claim(day: Day) -> None:
    day.asks()
    assert day.asks(found()) == POLL
    day.hears()
    assert day.asks() == SLOW


def test_one_unannounced_job_means_frequent_asking_for_an_hour(day: Day) -> None:
    day.asks()
    day.asks(found())
    assert day.asks(after=6) == POLL
    assert day.asks(after=3590) == POLL
    assert day.asks(after=20) == SLOW


def test_a_late_unannounced_job_is_not_excused_by_the_next_announcement(day: Day) -> None:
    day.asks()
    day.asks(found())
    day.asks(after=6)
    day.hears()
    assert day.asks() == POLL


def test_a_backlog_needs_no_announcement(day: Day) -> None:
    day.asks()
    day.hears()
    for _ in range(3):
        day.asks(found(), after=30)
    assert day.asks(after=10) == SLOW


@pytest.mark.parametrize("facts", [{"attempt": 2}, {"crashes": 1}, {"result": {"delivered": False}}])
def test_a_job_that_comes_back_needs_no_announcement(day: Day, facts: dict[str, Any]) -> None:
    day.asks()
    day.asks(found(**facts))
    assert day.asks(after=10) == SLOW


def test_whoever_hears_nothing_asks_often(day: Day) -> None:
    day.trust.deaf()
    assert day.asks() == POLL
    day.trust.listen()
    assert day.asks() == SLOW


def test_a_job_that_came_while_nobody_listened_is_not_held_against_the_announcements(day: Day) -> None:
    day.trust.deaf()
    day.asks()
    day.now += 1
    day.trust.listen()
    day.asks(found())
    assert day.asks(after=10) == SLOW


def test_jobs_that_wait_though_none_was_given_are_asked_for_often(day: Day) -> None:
    assert day.asks(ClaimReply(None, waiting=3, in_flight=1)) == POLL
    assert day.asks(ClaimReply(None, waiting=3, in_flight=0, paused=True)) == SLOW
