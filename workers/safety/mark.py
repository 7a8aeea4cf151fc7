"""What the mark in the pixels says: 32 bits that lead to a job, for those who hold the key.

22 bits are a tag, an HMAC of the job id; 10 are an HMAC of the tag, so that a mark can be told from chance without
knowing any job. A damaged mark is read with the help of known jobs: the nearest one, if it is near beyond chance.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from math import comb

BITS, CHECK_BITS = 32, 10
DOUBTS = 2
"""The weakest bits of a reading, which are tried both ways: one in 256 readings of noise then fits together."""

CHANCE = 1e-3
"""The most likely a match may be by chance, with all known jobs and all looks at the picture counted in."""


@dataclass(frozen=True, slots=True)
class Match:
    """A known job whose mark differs in `errors` bits from what was read. `chance` is how likely any of the known ones
    would have come as near to noise."""

    job_id: str
    errors: int
    chance: float


def code_of(job_id: str, key: bytes) -> int:
    """The mark of a job's outputs."""
    tag = _keyed(key, f"tag:{job_id}", BITS - CHECK_BITS)
    return tag << CHECK_BITS | _check(tag, key)


def bits_of(code: int) -> tuple[int, ...]:
    """The highest bit first."""
    return tuple(code >> place & 1 for place in reversed(range(BITS)))


def code_in(logits: Sequence[float]) -> int:
    """What a detector's 32 values say: 1 where they are positive."""
    return sum((value > 0) << place for value, place in zip(logits, reversed(range(BITS)), strict=True))


def own_code(logits: Sequence[float], key: bytes) -> int | None:
    """The mark in a reading if it fits together, with the weakest bits taken either way; the likeliest way first."""
    return next((code for code in _readings(logits) if _fits(code, key)), None)


def matches(code: int, jobs: Iterable[str], key: bytes, looks: int = 1) -> list[Match]:
    """The known jobs that a mark may stand for, the nearest first. `looks`: how many codes the picture gave."""
    errors = {job_id: (code ^ code_of(job_id, key)).bit_count() for job_id in jobs}
    chances = {count: chance_of(count, len(errors) * looks) for count in set(errors.values())}
    found = [Match(job_id, count, chances[count]) for job_id, count in errors.items() if chances[count] <= CHANCE]
    return sorted(found, key=lambda match: match.errors)


def chance_of(errors: int, tries: int) -> float:
    """How likely at least one of so many random codes differs from a given one in no more bits than that."""
    near = sum(comb(BITS, count) for count in range(errors + 1))
    return min(1.0, tries * near / 2.0**BITS)


def _readings(logits: Sequence[float]) -> Iterator[int]:
    code = code_in(logits)
    weakest = sorted(range(BITS), key=lambda place: abs(logits[place]))[:DOUBTS]
    flips = [sum(1 << BITS - 1 - place for place, doubt in zip(weakest, way, strict=True) if doubt)
             for way in product((False, True), repeat=DOUBTS)]  # fmt: skip
    return (code ^ flip for flip in sorted(flips, key=int.bit_count))


def _fits(code: int, key: bytes) -> bool:
    return code & (1 << CHECK_BITS) - 1 == _check(code >> CHECK_BITS, key)


def _check(tag: int, key: bytes) -> int:
    return _keyed(key, f"check:{tag}", CHECK_BITS)


def _keyed(key: bytes, text: str, bits: int) -> int:
    """So many bits of an HMAC."""
    return int.from_bytes(hmac.digest(key, text.encode(), sha256)[:4], "big") >> 32 - bits
