"""The gate's word lists as frozen sets, read from `config/safety/terms.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from workers.errors import Misconfigured
from workers.safety.alphabet import Alphabet
from workers.safety.reading import BETWEEN, Reading, Sought, cuts, read, squeeze
from workers.safety.slips import covered, slips
from workers.safety.staged import MANIFEST, UNFIT

TERMS = MANIFEST.with_name("terms.toml")
CLASSES = {"sexual": False, "minor": True, "youth": False}
"""Whether a long word of the class counts within another: "consensual" is not "sensual"."""

UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
SHORTEST_SPELLED = 4
LONG = 7
"""Letters of a word that two others form by chance too seldom to matter."""

Fold = Callable[[str], str]

HALF = r"(?: and a half)?"


@dataclass(frozen=True, slots=True)
class Words:
    """One class of terms: words and phrases without their spaces, with plurals; what is looked for `inside` running
    text, and the long ones that are looked for `within` other words; `slips` of all, and all with `covered` letters."""

    single: frozenset[str]
    phrases: frozenset[str]
    inside: tuple[str, ...]
    within: tuple[str, ...]
    long: frozenset[str]
    short: frozenset[str]
    cuts: frozenset[tuple[str, ...]]
    squeezed: frozenset[str]
    spelled: tuple[str, ...]
    slips: frozenset[str]
    covered: frozenset[str]

    @staticmethod
    def of(terms: Iterable[str], fold: Fold, *, glued: bool, mistaken: frozenset[str]) -> Words:
        folded = [(UNSPACED.search(term) is not None, fold(term)) for term in terms]
        spaced = [term for unspaced, term in folded if not unspaced]
        single = _with_plurals(term for term in spaced if " " not in term)
        phrases = _with_plurals(term.replace(" ", "") for term in spaced if " " in term)
        return Words(
            single=single,
            phrases=phrases,
            inside=tuple(BETWEEN.sub("", term) for unspaced, term in folded if unspaced),
            within=tuple(term for term in spaced if glued and term in single and len(term) >= LONG),
            long=frozenset(term for term in single if len(term) >= LONG),
            short=frozenset(term for term in single if len(term) < LONG),
            cuts=frozenset(pieces for term in single if len(term) < LONG for pieces in cuts(term)),
            squeezed=frozenset(map(squeeze, single | phrases)),
            spelled=tuple(term for term in single | phrases if len(term) >= SHORTEST_SPELLED),
            slips=slips(single | phrases) - mistaken,
            covered=covered(single | phrases),
        )

    def found(self, reading: Reading) -> bool:
        return (
            not self.single.isdisjoint(reading.words)
            or not self.phrases.isdisjoint(reading.words)
            or not self.slips.isdisjoint(reading.words)
            or not self.covered.isdisjoint(reading.covered)
            or not self.phrases.isdisjoint(reading.joined)
            or not self.long.isdisjoint(reading.joined)
            or not self.squeezed.isdisjoint(reading.squeezed)
            or (not self.short.isdisjoint(reading.joined) and any(map(self._cut, reading.parts)))
            or any(term in reading.solid for term in self.inside)
            or any(term in reading.spelled for term in self.spelled)
            or any(term in reading.glued for term in self.within)
        )

    def _cut(self, words: Sequence[str]) -> bool:
        """Whether a short word stands there in pieces that are no words."""
        return not (
            self.cuts.isdisjoint(pairwise(words))
            and self.cuts.isdisjoint(zip(words, words[1:], words[2:], strict=False))
        )


@dataclass(frozen=True, slots=True)
class Ages:
    """How ages are stated, between words and in `running` text. `numbers`: words and what they mean."""

    adult_from: int
    numbers: Mapping[str, int]
    stated: tuple[re.Pattern[str], ...]
    running: tuple[re.Pattern[str], ...]
    below: re.Pattern[str]

    def minor(self, reading: Reading) -> bool:
        """Whether an age below that of adults is stated. Up to three figures count, or a number's word."""
        plain = f" {reading.plain} "
        patterns = self.stated if plain.isascii() else self.stated + self.running
        stated = (match[1] for pattern in patterns for match in pattern.finditer(plain))
        if any(self._number(text) < self.adult_from for text in stated):
            return True
        bounds = (self._number(match[1]) for match in self.below.finditer(plain))
        return any(10 <= bound <= self.adult_from for bound in bounds)

    def _number(self, text: str) -> int:
        return self.numbers.get(text.replace(" ", "")) or int(text)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """`version` names the lists in the audit."""

    version: str
    sexual: Words
    minor: Words
    youth: Words
    ages: Ages
    alphabet: Alphabet
    sought: Sought

    def read(self, text: str) -> Reading:
        return read(text, self.alphabet, self.sought)

    def key(self, name: str) -> str:
        """What is left of a name however it is written."""
        return BETWEEN.sub("", self.alphabet.fold(name))


@lru_cache(1)
def load_lexicon(path: Path = TERMS) -> Lexicon:
    """Raises `Misconfigured` with exit code 73."""
    try:
        return lexicon_of(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__
        raise Misconfigured([f"{path} cannot be used ({kind}): restore it."], exit_code=UNFIT) from None


def lexicon_of(data: Mapping[str, Any]) -> Lexicon:
    """Raises `KeyError`, `TypeError` or `ValueError` where the data is not of the shipped file's form."""
    pairs = [pair for look in data["look_alikes"].values() for pair in zip(*look, strict=True)]
    symbols = {symbol: f" {words} " for symbol, words in data["symbols"].items()}
    alphabet = Alphabet.of(dict(pairs), symbols)
    mistaken = frozenset(map(alphabet.fold, data["mistaken"]))
    classes = {
        name: Words.of(data["classes"][name], alphabet.fold, glued=glued, mistaken=mistaken)
        for name, glued in CLASSES.items()
    }
    return Lexicon(
        version=str(data["version"]),
        ages=_ages(data["ages"], alphabet.fold),
        alphabet=alphabet,
        sought=_sought(classes.values()),
        **classes,
    )


def _sought(classes: Collection[Words]) -> Sought:
    joined = frozenset().union(*(words.phrases | words.long | words.short for words in classes))
    return Sought.of(joined, frozenset().union(*(words.squeezed for words in classes)))


def _ages(data: Mapping[str, Any], fold: Fold) -> Ages:
    words = {fold(word): int(value) for word, value in data["numbers"].items()}
    numbers = {word.replace(" ", ""): value for word, value in words.items()}
    number = rf"(\d{{1,3}}|{_either(words)})"
    unspaced = "".join({letter for word in numbers if UNSPACED.search(word) for letter in word})
    alone = rf"(?<![\d{unspaced}])"
    begun = rf"(?=[\d{''.join({word[0] for word in numbers})}])"  # first: most characters begin no number
    after, after_running = _sorted_out(data["after"], fold)
    before, before_running = _sorted_out(data["before"], fold)
    below = _either(map(fold, data["below"]))
    return Ages(
        adult_from=int(data["adult_from"]),
        numbers=numbers,
        stated=(
            re.compile(rf" {number}{HALF} ?(?:{after})(?= )"),
            re.compile(rf" (?:{before}) ?(?:is |of )?{number}(?= )"),
        ),
        running=(
            re.compile(rf"{begun}{alone}{number} ?(?:{after_running})"),
            re.compile(rf"(?:{before_running}) ?{number}(?![\d{unspaced}])"),
        ),
        below=re.compile(rf" (?:{below}) ?{number}(?= )"),
    )


def _sorted_out(terms: Iterable[str], fold: Fold) -> tuple[str, str]:
    """Patterns of those between spaces, and of those that stand in running text."""
    running = [term for term in terms if UNSPACED.search(term)]
    return _either(fold(term) for term in terms if term not in running), _either(map(fold, running))


def _either(terms: Iterable[str]) -> str:
    """The longest first, so that none hides another; with or without the spaces in them."""
    return "|".join(re.escape(term).replace(r"\ ", " ?") for term in sorted(terms, key=len, reverse=True))


def _with_plurals(terms: Iterable[str]) -> frozenset[str]:
    return frozenset(form for term in terms for form in (term, f"{term}s", f"{term}es"))
