"""The gate's word lists as frozen sets, read from `config/safety/terms.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from workers.errors import Misconfigured
from workers.safety.reading import BETWEEN, Reading, fold, read, splits
from workers.safety.staged import MANIFEST, UNFIT

TERMS = MANIFEST.with_name("terms.toml")
CLASSES = ("sexual", "minor", "youth")
UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
SHORTEST_SPELLED = 4
LONG = 7
"""Letters of a word that two others form by chance too seldom to matter."""

HALF = r"(?: and a half)?"


@dataclass(frozen=True, slots=True)
class Words:
    """One class of terms: single words, phrases without their spaces, and what is looked for inside running text."""

    single: frozenset[str]
    phrases: frozenset[str]
    inside: tuple[str, ...]

    @staticmethod
    def of(terms: Iterable[str]) -> Words:
        folded = [(UNSPACED.search(term) is not None, fold(term)) for term in terms]
        spaced = [term for unspaced, term in folded if not unspaced]
        return Words(
            single=_with_plurals(term for term in spaced if " " not in term),
            phrases=_with_plurals(term.replace(" ", "") for term in spaced if " " in term),
            inside=tuple(BETWEEN.sub("", term) for unspaced, term in folded if unspaced),
        )

    def found(self, reading: Reading) -> bool:
        whole = self.single | self.phrases
        return (
            not self.single.isdisjoint(reading.words)
            or not self.phrases.isdisjoint(reading.joined | reading.words)
            or any(term in reading.solid for term in self.inside)
            or any(term in run for run in reading.spelled for term in whole if len(term) >= SHORTEST_SPELLED)
            or any(len(word) >= LONG or splits(reading, word) for word in self.single & reading.joined)
        )


@dataclass(frozen=True, slots=True)
class Ages:
    """How ages are stated. `numbers`: words and what they mean."""

    adult_from: int
    numbers: Mapping[str, int]
    named: re.Pattern[str]
    stated: tuple[re.Pattern[str], ...]
    below: re.Pattern[str]

    def minor(self, reading: Reading) -> bool:
        """Whether an age below that of adults is stated. Up to three figures count, or a number's word."""
        if not any(map(str.isdigit, reading.plain)) and not self.named.search(reading.plain):
            return False
        stated = (match[1] for pattern in self.stated for match in pattern.finditer(reading.plain))
        if any(self._number(text) < self.adult_from for text in stated):
            return True
        bounds = (self._number(match[1]) for match in self.below.finditer(reading.plain))
        return any(10 <= bound <= self.adult_from for bound in bounds)

    def _number(self, text: str) -> int:
        return self.numbers[text] if text in self.numbers else int(text)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """`version` names the lists in the audit."""

    version: str
    sexual: Words
    minor: Words
    youth: Words
    ages: Ages
    look_alikes: Mapping[int, str]
    symbols: Mapping[int, str]

    def read(self, text: str) -> Reading:
        return read(text if text.isascii() else text.translate(self.symbols), self.look_alikes)


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
    classes = {name: Words.of(data["classes"][name]) for name in CLASSES}
    pairs = [pair for look in data["look_alikes"].values() for pair in zip(*look, strict=True)]
    return Lexicon(
        version=str(data["version"]),
        ages=_ages(data["ages"]),
        look_alikes={ord(letter): latin for letter, latin in pairs},
        symbols={ord(symbol): f" {words} " for symbol, words in data["symbols"].items()},
        **classes,
    )


def _ages(data: Mapping[str, Any]) -> Ages:
    numbers = {fold(word): int(value) for word, value in data["numbers"].items()}
    apart = [fold(term) for term in data["after"] if not UNSPACED.search(term)]
    close = [fold(term) for term in data["after"] if UNSPACED.search(term)]
    before = [fold(term) for term in data["before"]]
    number = rf"(\d{{1,3}}|{_either(numbers)})"
    unspaced = "".join({letter for word in numbers if UNSPACED.search(word) for letter in word})
    start, end = rf"(?<![^\W_])(?<![\d{unspaced}])", r"(?![^\W_])"
    return Ages(
        adult_from=int(data["adult_from"]),
        numbers=numbers,
        named=re.compile(_either(numbers)),
        stated=(
            re.compile(rf"{start}{number}{HALF} ?(?:{_either(apart)}){end}"),
            re.compile(rf"(?<![\d{unspaced}]){number} ?(?:{_either(close)})"),
            re.compile(rf"(?:{_either(before)}) ?(?:is |of )?{number}{end}"),
        ),
        below=re.compile(rf"{start}(?:{_either(fold(term) for term in data['below'])}) {number}{end}"),
    )


def _either(terms: Iterable[str]) -> str:
    """The longest first, so that none hides another; with or without the spaces in them."""
    return "|".join(re.escape(term).replace(r"\ ", " ?") for term in sorted(terms, key=len, reverse=True))


def _with_plurals(terms: Iterable[str]) -> frozenset[str]:
    return frozenset(form for term in terms for form in (term, f"{term}s", f"{term}es"))
