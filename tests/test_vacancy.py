"""A worker is started when the card has room for its weights, and not kept waiting for ever."""

from __future__ import annotations

import pytest

from workers.supervision import vacancy
from workers.supervision.vacancy import PATIENCE, Vacancy

NEED = 7_000_000_000


class World:
    """A card and a clock; what was said of the card."""

    def __init__(self) -> None:
        self.free: int | None = NEED
        self.now = 0.0
        self.said: list[str] = []
        self.may_start = Vacancy({"sdxl": NEED}, lambda: self.free, lambda: self.now)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(vacancy.log, "warning", lambda name, **_: made.said.append(name))
    return made


@pytest.mark.parametrize("free", [None, NEED, 2 * NEED], ids=["no card", "enough", "plenty"])
def test_where_there_is_room_or_no_card_a_worker_starts_at_once(world, free):
    world.free = free
    assert world.may_start("sdxl")


def test_a_worker_waits_until_the_one_before_it_has_let_go_of_the_card(world):
    world.free = NEED - 1
    assert not world.may_start("sdxl")
    world.free = NEED
    assert world.may_start("sdxl")


def test_a_card_that_stays_full_is_told_once_and_waited_for_no_longer_than_a_minute(world):
    world.free = 0
    assert not world.may_start("sdxl")
    world.now = PATIENCE - 1
    assert not world.may_start("sdxl")
    world.now = PATIENCE
    assert world.may_start("sdxl")
    assert world.said == ["waiting for the card"]
    assert not world.may_start("sdxl")
