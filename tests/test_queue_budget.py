"""Every command is counted, and a used-up budget stops new claims only."""

from __future__ import annotations

from contextlib import closing

import pytest
from queue_bench import LEASE, NAME, job, new_token
from support import RunningGateway

from workers.claim import Beat
from workers.errors import Unreachable
from workers.queue.budget import Budget
from workers.queue.upstash import UpstashQueue


def open_queue(gateway: RunningGateway, budget: Budget) -> UpstashQueue:
    return UpstashQueue(NAME, gateway.url, gateway.token, lease=LEASE, budget=budget)


def test_every_command_is_counted(gateway: RunningGateway) -> None:
    budget = Budget()
    with closing(open_queue(gateway, budget)) as queue:
        queue.check()
        before = budget.used
        queue.push(job())
        queue.claim(new_token())
        queue.waiting()
    assert budget.used - before == 1 + 1 + 1


def test_a_used_up_budget_stops_claims_but_not_what_is_claimed(gateway: RunningGateway) -> None:
    token = new_token()
    with closing(open_queue(gateway, Budget(limit=2))) as queue:
        queue.push(job())
        queue.claim(token)
        with pytest.raises(Unreachable):
            queue.claim(new_token())
        assert queue.beat([Beat(token)]).lost == frozenset()
        assert queue.ack(token, None)


def test_a_budget_starts_anew_at_midnight() -> None:
    now = 86_399.0
    budget = Budget(limit=1, clock=lambda: now)
    budget.spend()
    with pytest.raises(Unreachable) as caught:
        budget.require_room()
    assert caught.value.retry_after == 1.0
    now += 1
    budget.require_room()
    assert (budget.used, budget.total) == (0, 1)
