"""The scripts beside this file, run by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from workers.queue.rest import ScriptMissing

FOLDER = Path(__file__).parent / "lua"
NAMES = (
    "claim", "beat", "remember", "release", "park", "ack", "bury", "expire",
    "push", "resume", "requeue", "missing", "restore", "prune", "check",
)  # fmt: skip
FIXED_KEYS = (
    "retry", "bodies", "attempts", "crashes", "inflight", "fence", "dead",
    "since", "paused", "reconciler", "reaped",
)  # fmt: skip
PARTS = {"claim": ("common", "schedule", "claim")}
"""What a script is joined from, where that is more than `common` and itself."""

Execute = Callable[[Sequence[str | int]], Any]


class Scripts:
    """All scripts of one queue. They get every fixed key; keys that hold a token or a job id they build themselves."""

    def __init__(self, queue: str, execute: Execute) -> None:
        self._keys = (queue, *(f"{queue}:{part}" for part in FIXED_KEYS), "queue:schema")
        self._execute = execute

    def run(self, name: str, *arguments: str | int) -> Any:
        """Raises what `execute` raises, except that a script the server forgot is sent again as text."""
        tail = (len(self._keys), *self._keys, *arguments)
        try:
            return self._execute(("EVALSHA", digest(name), *tail))
        except ScriptMissing:
            return self._execute(("EVAL", source(name), *tail))

    def load(self) -> None:
        """Have the server compile every script, so that one it does not take is found at boot."""
        for name in NAMES:
            self._execute(("SCRIPT", "LOAD", source(name)))


@cache
def source(name: str) -> str:
    return "\n".join((FOLDER / f"{part}.lua").read_text("utf-8") for part in PARTS.get(name, ("common", name)))


@cache
def digest(name: str) -> str:
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()
