"""What the mark in the pixels says: 32 bits that lead to a job, for those who hold the key.

22 bits are a tag, an HMAC of the job id; 10 are an HMAC of the tag, so that a mark can be told from chance without
knowing any job. A damaged mark is read with the help of known jobs: the one that agrees best with what was read, if no
chance would agree as well. A bit that was read faintly says little, either way.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, product

BITS, CHECK_BITS = 32, 10
DOUBTS = 2
"""The weakest bits of a reading, which are tried both ways: one in 256 readings of noise then fits together."""

GRAINS = 1000
"""What all bits of a reading weigh together."""

CHANCE = 1e-3
"""The most likely a match may be by chance, with all known jobs and all looks at the picture counted in."""


@dataclass(frozen=True, slots=True)
class Match:
    """A known job whose mark differs in `errors` bits from what was read. `chance` is how likely any of so many known
    ones would agree as well with something that none of them is in."""

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


def matches(logits: Sequence[float], jobs: Iterable[str], key: bytes, looks: int = 1) -> list[Match]:
    """The known jobs that a reading may stand for, the likeliest first. `looks`: how often the picture was read."""
    weights, code = weights_of(logits), code_in(logits)
    wrong = {job_id: code ^ code_of(job_id, key) for job_id in jobs}
    chances = [len(wrong) * looks * share for share in shares(weights)]
    found = [Match(job, bits.bit_count(), chances[_weight(bits, weights)]) for job, bits in wrong.items()]
    return sorted((match for match in found if match.chance <= CHANCE), key=lambda match: match.chance)


def weights_of(logits: Sequence[float]) -> list[int]:
    """What each bit counts for, the highest first: the surer it was read, the more. Nothing where nothing was read."""
    whole = sum(map(abs, logits))
    return [int(GRAINS * abs(value) / whole) if whole else 0 for value in logits]


def shares(weights: Sequence[int]) -> list[float]:
    """Of all codes, the share whose wrong bits weigh no more than so much: at place w, no more than w."""
    counts = [1] + [0] * sum(weights)
    for weight in weights:
        without = list(counts)
        counts = [count + (without[place - weight] if place >= weight else 0) for place, count in enumerate(without)]
    return [count / 2.0 ** len(weights) for count in accumulate(counts)]


def _weight(wrong: int, weights: Sequence[int]) -> int:
    return sum(weight for weight, bit in zip(weights, bits_of(wrong), strict=True) if bit)


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
