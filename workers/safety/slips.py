"""Forms in which a word is still read: a letter left out, two exchanged, without vowels, backwards, letters hidden.

How short a word may be was measured on 650,000 words of forty languages: below these lengths a form is too often
another word. Those that are one all the same stand among the lists as `mistaken`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

MISSING, EXCHANGED, BACKWARDS, UNVOICED = 7, 5, 5, 4
"""Letters of a word of which one may be missing, two be exchanged, or that may stand backwards; and letters of what is
left of one without its vowels."""

COVER = "*"
ONE_COVERED, TWO_COVERED = 4, 5
"""Letters of a word of which one or two within may be covered."""

VOWELS = str.maketrans("", "", "aeiou")


def slips(words: Iterable[str]) -> frozenset[str]:
    """Of words in Latin letters."""
    latin = [word for word in words if word.isascii()]
    return frozenset(form for word in latin for form in _forms(word)).difference(latin)


def _forms(word: str) -> Iterator[str]:
    if len(word) >= MISSING:
        yield from (word[:i] + word[i + 1 :] for i in range(len(word)))
    if len(word) >= EXCHANGED:
        yield from (word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1))
    if len(word) >= BACKWARDS:
        yield word[::-1]
    if len(unvoiced := word.translate(VOWELS)) >= UNVOICED:
        yield unvoiced


def covered(words: Iterable[str]) -> frozenset[str]:
    """The words with one or two of the letters within them covered."""
    return frozenset(form for word in words for form in _covered(word))


def _covered(word: str) -> Iterator[str]:
    for count, shortest in ((1, ONE_COVERED), (2, TWO_COVERED)):
        if len(word) >= shortest:
            for places in combinations(range(1, len(word) - 1), count):
                yield "".join(COVER if i in places else letter for i, letter in enumerate(word))
