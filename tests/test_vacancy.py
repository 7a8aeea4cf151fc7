"""A worker is started when the card has room for its weights, and not kept waiting for ever."""

from __future__ import annotations

import pytest

from workers.supervision import vacancy
from workers.supervision.vacancy import PATIENCE, Vacancy

NEED = 7_000_000_000


class World:
    """A card and a clock; what was said of the card."""

    def __init__(self) -> None:
        self.card: tuple[int, int] | None = (NEED, 3 * NEED)
        self.now = 0.0
        self.said: list[str] = []
        self.may_start = Vacancy({"sdxl": NEED}, lambda: self.card, lambda: self.now)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(vacancy.log, "warning", lambda name, **_: made.said.append(name))
    return made


@pytest.mark.parametrize(
    "card",
    [None, (NEED, 3 * NEED), (2 * NEED, 3 * NEED), (0, NEED - 1)],
    ids=["no card", "enough", "plenty", "a card that never has enough"],
)
def test_where_there_is_room_or_nothing_to_wait_for_a_worker_starts_at_once(world, card):
    world.card = card
    assert world.may_start("sdxl")
    assert world.said == []


def test_a_worker_waits_until_the_one_before_it_has_let_go_of_the_card(world):
    world.card = (NEED - 1, 3 * NEED)
    assert not world.may_start("sdxl")
    world.card = (NEED, 3 * NEED)
    assert world.may_start("sdxl")


def test_a_card_that_stays_full_is_told_once_and_not_waited_for_for_ever(world):
    world.card = (0, 3 * NEED)
    assert not world.may_start("sdxl")
    world.now = PATIENCE - 1
    assert not world.may_start("sdxl")
    world.now = PATIENCE
    assert world.may_start("sdxl")
    assert world.said == ["waiting for the card"]
    assert not world.may_start("sdxl")
