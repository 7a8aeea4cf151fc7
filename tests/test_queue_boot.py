"""What the check at boot finds, and which scripts there are."""

from __future__ import annotations

import pytest
import valkey

from workers.claiming import check
from workers.errors import Misconfigured, Unreachable
from workers.local.commands import AVAILABLE
from workers.queue import scripts
from workers.queue.upstash import UpstashQueue
from workers.stop import Stop


def test_a_fresh_redis_is_marked_with_our_schema(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    direct.check()
    direct.check()
    assert redis.get("queue:schema") == b"1"


def test_another_schema_is_refused_at_boot(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    redis.set("queue:schema", "2")
    with pytest.raises(Misconfigured, match="schema 2"):
        direct.check()
    assert redis.get("queue:schema") == b"2"


def test_the_check_has_every_script_compiled(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    direct.check()
    assert redis.script_exists(*map(scripts.digest, scripts.NAMES)) == [True] * len(scripts.NAMES)


class Losing:
    """A queue whose first answers are lost."""

    def __init__(self, lost: int, *, denied: bool = False) -> None:
        self.lost, self.denied, self.asked = lost, denied, 0

    def check(self) -> None:
        self.asked += 1
        if self.asked <= self.lost:
            raise Unreachable("no answer", denied=self.denied)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.claiming.BOOT_PAUSES", (0.0,) * 4)


@pytest.mark.usefixtures("hurry")
def test_a_request_that_is_lost_at_boot_is_asked_again() -> None:
    queue = Losing(4)
    check(queue, Stop())
    assert queue.asked == 5


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(("queue", "asked"), [(Losing(5), 5), (Losing(5, denied=True), 1)])
def test_a_queue_that_does_not_answer_or_knows_us_not_ends_the_process(queue: Losing, asked: int) -> None:
    with pytest.raises(Unreachable):
        check(queue, Stop())
    assert queue.asked == asked


def test_scripts_use_only_commands_that_the_service_has() -> None:
    used = {word for name in scripts.NAMES for word in _commands(scripts.source(name))}
    assert {"lrem", "hset", "pttl"} <= used <= AVAILABLE


def test_every_script_file_is_known() -> None:
    parts = {part for parts in scripts.PARTS.values() for part in parts}
    assert {file.stem for file in scripts.FOLDER.glob("*.lua")} == {*scripts.NAMES, *parts}


OTHER_WORDS = {"px", "ex", "nx", "none", "job", "paused", "z"}


def _commands(text: str) -> set[str]:
    """The upper-case words in quotes: commands, without their options and the words of replies."""
    words = {word for word in text.replace("(", " ").replace(",", " ").split() if word[0] == word[-1] == "'"}
    return {word.strip("'").lower() for word in words if word.isupper()} - OTHER_WORDS
