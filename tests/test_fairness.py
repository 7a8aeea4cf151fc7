"""Hours of one card with unequal users, simulated: who gains by the order of service, and what it costs the others."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest

from bench.scheduling import CROWDS, SECONDS, Served, arrivals, first_in_first_out, scheduled, serve
from workers.local.redis import RedisServer

COMING = arrivals(CROWDS)
FAST, HIGH = SECONDS


@pytest.fixture(scope="module")
def plain() -> Served:
    return serve(COMING, first_in_first_out())


@pytest.fixture(scope="module")
def ours() -> Iterator[Served]:
    with RedisServer() as redis:
        yield serve(COMING, scheduled(redis))


def mean(waited: Served, crowd: str, job_type: str = FAST) -> float:
    return statistics.fmean(waited[crowd, job_type])


def test_every_job_is_served_in_either_order(plain: Served, ours: Served) -> None:
    assert sum(map(len, plain.values())) == sum(map(len, ours.values())) == len(COMING)


@pytest.mark.parametrize("crowd", ["steady", "seldom"])
def test_who_queues_little_hardly_waits_for_who_queues_a_dozen(plain: Served, ours: Served, crowd: str) -> None:
    assert mean(ours, crowd) < mean(plain, crowd) / 5
    assert mean(ours, crowd, HIGH) < mean(plain, crowd, HIGH)


@pytest.mark.parametrize("job_type", SECONDS)
def test_urgent_jobs_wait_for_little_more_than_the_job_in_work(ours: Served, job_type: str) -> None:
    assert max(ours["urgent", job_type]) < 3 * max(SECONDS.values())


def test_fast_jobs_wait_less_than_high_ones_of_the_same_users(ours: Served) -> None:
    for crowd in ("a dozen at once", "steady", "seldom"):
        assert mean(ours, crowd) < mean(ours, crowd, HIGH) / 2


def test_nobody_waits_much_longer_than_ten_minutes_more_than_first_in_first_out(plain: Served, ours: Served) -> None:
    longest = max(max(waits) for waits in plain.values())
    assert max(max(waits) for waits in ours.values()) < longest + 600
