"""What the check at boot finds, and which scripts there are."""

from __future__ import annotations

import pytest
import valkey

from workers.errors import Misconfigured
from workers.local.commands import AVAILABLE
from workers.queue import scripts
from workers.queue.upstash import UpstashQueue


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
