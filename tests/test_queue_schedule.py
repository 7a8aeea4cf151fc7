"""Which of the waiting jobs a claim serves next."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from queue_bench import NAME, claimed, run_down
from queue_shop import MINUTE, Shop


def test_a_higher_priority_is_served_first(shop: Shop) -> None:
    shop.push("none")
    shop.push("low", priority=-1)
    shop.push("high", priority=5)
    shop.push("higher", priority=5.5)
    assert shop.serve() == ["higher", "high", "none", "low"]


def test_a_priority_counts_only_at_the_top_level(shop: Shop) -> None:
    shop.push("first")
    shop.push("claims to be first", metadata={"priority": 9}, config={"priority": 9})
    assert shop.serve() == ["first", "claims to be first"]


def test_fast_types_are_served_before_high_ones_of_the_same_priority(shop: Shop) -> None:
    shop.push("high", "sdxl_image_high")
    shop.push("fast")
    shop.push("urgent", "sdxl_image_high", priority=1)
    assert shop.serve() == ["urgent", "fast", "high"]


def test_a_type_that_nobody_ranks_is_served_as_a_high_one(shop: Shop) -> None:
    shop.push("high", "sdxl_image_high")
    shop.push("eleventh", "sdxl_image_draft")
    shop.push("fast")
    assert shop.serve() == ["fast", "high", "eleventh"]


def test_jobs_of_one_class_are_served_in_the_order_they_came(shop: Shop) -> None:
    for number in range(5):
        shop.push(f"high {number}", "sdxl_image_high", user_id="a")
        shop.push(f"fast {number}", user_id="a")
    assert shop.serve() == [f"{kind} {number}" for kind in ("fast", "high") for number in range(5)]


def test_users_take_turns(shop: Shop) -> None:
    for number in range(3):
        shop.push(f"a{number}", user_id="a")
    shop.push("b0", user_id="b")
    shop.push("c0", userId="c")
    shop.push("c1", user_id="c")
    assert shop.serve() == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_a_user_who_comes_later_is_served_before_one_who_was_just_served(shop: Shop) -> None:
    for number in range(3):
        shop.push(f"a{number}", user_id="a")
    assert shop.serve(1) == ["a0"]
    shop.push("b0", user_id="b")
    assert shop.serve() == ["b0", "a1", "a2"]


def test_whose_turn_it_was_is_forgotten_in_time(shop: Shop) -> None:
    shop.push("a0", user_id="a")
    shop.serve()
    assert [key.decode() for key in shop.redis.keys("*:served:*")] == [f"{NAME}:served:a"]
    run_down(shop.redis, 11 * MINUTE)
    assert not shop.redis.keys("*:served:*")


def test_nobody_overtakes_who_has_waited_ten_minutes_longer(shop: Shop) -> None:
    shop.push("old", "sdxl_image_high", age=11 * MINUTE)
    shop.push("new", priority=100)
    shop.push("younger, but not by so much", priority=1, age=2 * MINUTE)
    assert shop.serve() == ["younger, but not by so much", "old", "new"]


def test_under_a_long_backlog_the_better_still_goes_first(shop: Shop) -> None:
    shop.push("high", "sdxl_image_high", age=120 * MINUTE)
    shop.push("fast", age=119 * MINUTE)
    assert shop.serve() == ["fast", "high"]


@pytest.mark.parametrize("made", [None, "yesterday", 5, "9999-12-31T23:59:59Z", "2025-07-15T02:12:30"])
def test_a_job_that_does_not_say_its_age_is_passed_over_for_ten_minutes_at_most(shop: Shop, made: object) -> None:
    shop.push("patient", "sdxl_image_high", created_at=made)
    served: list[str] = []
    for minute in range(12):
        shop.push(f"fast {minute}")
        served += shop.serve(1)
        shop.now += MINUTE
    assert served.index("patient") == 11


@pytest.mark.parametrize("made", ["2025-07-15T02:01:30.489Z", "2025-07-15T02:01:30Z", "2025-07-15T02:01:30+00:00"])
def test_every_spelling_of_a_time_is_read(shop: Shop, made: str) -> None:
    shop.push("old", "sdxl_image_high", created_at=made)
    shop.push("new")
    assert shop.serve() == ["old", "new"]


DAYS = ["2024-02-29", "2024-03-01", "2025-03-01", "2025-01-01", "2026-12-31", "2000-03-01", "2100-03-01"]


@pytest.mark.parametrize("day", DAYS)
def test_times_are_compared_across_months_and_leap_years(shop: Shop, day: str) -> None:
    shop.now = datetime.fromisoformat(f"{day}T00:05:00Z").timestamp()
    shop.push("too much older", "sdxl_image_high", age=10 * MINUTE + 1)
    shop.push("younger")
    assert shop.serve() == ["too much older", "younger"]
    shop.push("just older", "sdxl_image_high", age=10 * MINUTE - 1)
    shop.push("younger again")
    assert shop.serve() == ["younger again", "just older"]


def test_only_the_fifty_nearest_are_looked_at(shop: Shop) -> None:
    for number in range(50):
        shop.push(f"{number}", user_id="a")
    shop.push("too far", priority=9)
    assert shop.serve(2) == ["0", "too far"]


def test_what_came_back_is_served_before_any_priority(shop: Shop) -> None:
    shop.push("given back", "sdxl_image_high")
    token = claimed(shop.queue).token
    shop.push("urgent", priority=9)
    shop.queue.release(token, counted=False)
    assert shop.serve() == ["given back", "urgent"]


def test_identical_elements_are_each_served_once(shop: Shop) -> None:
    body = json.dumps({"type": "sdxl_image_fast", "prompt": "a red bicycle"}).encode()
    for _ in range(3):
        shop.push_raw("copy", body)
        shop.push("high", "sdxl_image_high")
    assert shop.serve() == ["copy"] * 3 + ["high"] * 3
    assert shop.redis.exists(NAME) == 0


def test_an_element_too_large_to_be_read_is_an_ordinary_one(shop: Shop) -> None:
    shop.push("large", priority=9, prompt="a lighthouse at dusk " * 800)
    shop.push("high", "sdxl_image_high")
    shop.push("fast")
    assert shop.serve() == ["fast", "large", "high"]
