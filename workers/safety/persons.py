"""The list of real persons, by the hashes of their names: nobody is named in it.

One line per name, the SHA-256 of the name as `key` spells it; empty lines and lines that begin with `#` are left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from operator import add

from workers.safety.lexicon import load_lexicon
from workers.safety.reading import Reading

MOST_WORDS = 4
_LINE = re.compile(r"[0-9a-f]{64}")


def key(name: str) -> str:
    """What stands for a name of up to four words, however it is written."""
    return _hashed(load_lexicon().key(name))


def parse(text: str) -> frozenset[str]:
    """Raises `ValueError` for a line that is no hash."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if wrong := next((number for number, line in enumerate(lines, 1) if not _LINE.fullmatch(line)), None):
        raise ValueError(f"line {wrong} is no SHA-256")
    return frozenset(lines)


def named(reading: Reading, persons: frozenset[str]) -> bool:
    return bool(persons) and any(_hashed(run) in persons for run in _runs(reading))


def _runs(reading: Reading) -> Iterable[str]:
    """Up to four neighbouring words, joined, each such text once."""
    runs = set(reading.words)
    for words in reading.parts:
        run = words
        for place in range(1, MOST_WORDS):
            run = list(map(add, run, words[place:]))
            runs.update(run)
    return runs


def _hashed(joined: str) -> str:
    return hashlib.sha256(joined.encode()).hexdigest()
