"""What a text says beneath its disguises: other alphabets, hidden characters, weights, spelled letters, figures.

A `Reading` holds every word that a text can be read as. It is wide on purpose: it only serves to look for words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import add

WEIGHT = re.compile(r":\s*[+-]?\d*\.?\d+\s*(?=[)\]}])")
WORD = re.compile(r"[^\W\d_]+")
HUMP = re.compile(r"([a-z])(?=[A-Z])")
INSIDE = re.compile(r"(?<=\w)[^\w\s]+(?=\w)|_+")
SPELLED = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,4}[^\W_](?![^\W_])){2,}")
THRICE = re.compile(r"([^\W\d_])\1{2,}")
BETWEEN = re.compile(r"[\W_]+")
APART = re.compile(r"[\s,;]+")
THOUSANDS = re.compile(r"(?<=\d)[,.](?=\d{3}\b)")
FIGURES = frozenset("0123456789@$!|€+")
FIGURE_WITHIN = re.compile(r"[^\W\d_][0-9@$!|€+]")
AS_LETTERS = tuple(str.maketrans("02345678@$!€+|9", f"ozeasgtbasiet{one}g", "") | {ord("1"): one} for one in "il")
HIDDEN = frozenset({"Mn", "Mc", "Me", "Cf"})
VOWELS = frozenset("aeiouy")
MOST_PARTS = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """`words` stand alone. `joined` are two or three neighbours without the space between them, from `parts`.
    `solid` is the text without anything between its letters, `spelled` what stands in single letters, `plain` the
    text with one space between words and figures."""

    words: frozenset[str]
    joined: frozenset[str]
    parts: tuple[tuple[str, ...], ...]
    solid: str
    spelled: tuple[str, ...]
    plain: str


@cache
def _hidden(instead: str) -> dict[int, str]:
    """Marks, format characters and blanks that are letters by class: they change no word for a reader."""
    planes = (range(0x20000), range(0xE0000, 0xE1000))  # the others hold none
    found = (i for plane in planes for i in plane if unicodedata.category(chr(i)) in HIDDEN)
    return dict.fromkeys([*found, *map(ord, "\u115f\u1160\u3164\uffa0\u2800")], instead)


@cache
def _boxed() -> dict[int, str]:
    """Letters in boxes, circles and flags, which Unicode does not call compatible with letters."""
    firsts = (0x1F130, 0x1F150, 0x1F170, 0x1F1E6)
    return {first + i: chr(ord("a") + i) for first in firsts for i in range(26)}


def fold(text: str) -> str:
    """Lower case, compatible forms resolved, accents and hidden characters gone."""
    if text.isascii():
        return text.lower()
    boxed = text.translate(_boxed())
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", boxed).casefold())
    return plain.translate(_hidden(""))


def read(text: str, look_alikes: Mapping[int, str]) -> Reading:
    """Every way to read a text. `look_alikes` are letters of other alphabets -> the Latin ones they look like."""
    bases = [WEIGHT.sub("", base) for base in _bases(text, look_alikes)]
    whole = "\n".join(bases)
    parts = tuple(tuple(WORD.findall(base)) for base in _with_words_undone(bases))
    spelled = frozenset(BETWEEN.sub("", run) for run in SPELLED.findall(whole))
    chunks = {chunk for chunk in APART.split(whole) if not chunk.isalpha() or THRICE.search(chunk)}
    disguised = _undisguised("\n".join(chunks | spelled))
    plain = BETWEEN.sub(" ", THOUSANDS.sub("", whole))
    return Reading(
        words=frozenset().union(WORD.findall(disguised), *parts),
        joined=frozenset(word for words in parts for word in _neighbours(words)),
        parts=parts,
        solid=plain.replace(" ", ""),
        spelled=tuple({run for each in spelled for run in _undisguised(each).split()}),
        plain=f"{plain} {' '.join(spelled)}",
    )


def splits(reading: Reading, word: str) -> bool:
    """Whether neighbours join to this word and one of them is no word by itself, having no vowel: "ch ild", but not
    "pen is"."""
    for words in reading.parts:
        for count in range(2, MOST_PARTS + 1):
            for some in zip(*(words[i:] for i in range(count)), strict=False):
                if "".join(some) == word and not all(VOWELS & set(part) for part in some):
                    return True
    return False


def _bases(text: str, look_alikes: Mapping[int, str]) -> list[str]:
    """The folded text, and as it would read with its humps, hidden characters and foreign letters understood."""
    texts = [text]
    if HUMP.search(text):
        texts.append(HUMP.sub(r"\1 ", text))
    if not text.isascii() and (apart := text.translate(_hidden(" "))) != text:
        texts.append(apart)
    folded = [fold(each) for each in texts]
    latin = [each.translate(look_alikes) for each in folded if not each.isascii()]
    return list(dict.fromkeys(folded + latin))


def _with_words_undone(bases: Sequence[str]) -> list[str]:
    """The texts, and again with spelled words joined and figures within words as letters, for phrases and names."""
    joined = [SPELLED.sub(lambda run: BETWEEN.sub("", run[0]), base) for base in bases]
    texts = list(dict.fromkeys([*bases, *joined]))
    return texts + [text.translate(table) for text in texts if FIGURE_WITHIN.search(text) for table in AS_LETTERS]


def _undisguised(text: str) -> str:
    """The text with what stands inside words taken out, figures read as letters, long letters shortened."""
    readings = [text, INSIDE.sub("", text)]
    if not FIGURES.isdisjoint(text):
        figures = [each.translate(table) for each in readings for table in AS_LETTERS]
        readings += figures + [INSIDE.sub("", each) for each in figures]
    if THRICE.search(text):
        readings += [THRICE.sub(shorter, each) for each in readings for shorter in (r"\1", r"\1\1")]
    return "\n".join(dict.fromkeys(readings))


def _neighbours(words: Sequence[str]) -> set[str]:
    pairs = list(map(add, words, words[1:]))
    return {*pairs, *map(add, pairs, words[2:])}
