"""What a text says beneath its disguises: other alphabets, hidden characters, weights, spelled letters, figures.

A `Reading` holds every word that a text can be read as. It is wide on purpose: it only serves to look for words.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, groupby
from operator import add

WEIGHT = re.compile(r":\s*[+-]?\d*\.?\d+\s*(?=[)\]}])")
WORD = re.compile(r"[^\W\d_]+")
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z][A-Z])(?=[a-z])")
INSIDE = re.compile(r"(?<=\w)[^\w\s]+(?=\w)|_+")
SPELLED = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,4}[^\W_](?![^\W_])){2,}")
TWICE, THRICE = re.compile(r"(.)\1"), re.compile(r"(.)\1\1")
BETWEEN = re.compile(r"[\W_]+")
THOUSANDS = re.compile(r"(?<=\d)[,.](?=\d{3}\b)")
FIGURE = "[0-9@$!|€+]"
FIGURE_WITHIN = re.compile(rf"[^\W\d_]{FIGURE}|{FIGURE}[^\W\d_]")
AS_LETTERS = tuple(str.maketrans("02345678@$!€+|9", f"ozeasgtbasiet{one}g", "") | {ord("1"): one} for one in "il")
LETTER_WITHIN = re.compile(r"(?<!\w)[oil]?\d[oil\d]?(?!\w)")
AS_FIGURES = str.maketrans("oil", "011")
ENTITIES = 3
"""How often entities are resolved, one within another."""

HIDDEN = frozenset({"Mn", "Mc", "Me", "Cf"})
VOWELS = frozenset("aeiouy")
LONG = 6
"""Letters of a word that stays itself when double letters are written once: "todler", but "ten" is not "teen"."""


@dataclass(frozen=True, slots=True)
class Reading:
    """`words` stand alone, `squeezed` are the same with double letters once. `joined` are two or three neighbours
    without the space between them, from `parts`. `solid` is the text without anything between its letters, `spelled`
    what stands in single letters, `glued` all words, `plain` the text with one space between words and figures."""

    words: frozenset[str]
    squeezed: frozenset[str]
    joined: frozenset[str]
    parts: tuple[tuple[str, ...], ...]
    solid: str
    spelled: str
    glued: str
    plain: str


@dataclass(frozen=True, slots=True)
class Alphabet:
    """What single characters are read as, `before` and `after` compatible forms are resolved."""

    before: Mapping[int, str]
    after: Mapping[int, str]

    @staticmethod
    def of(look_alikes: Mapping[int, str]) -> Alphabet:
        """`look_alikes` are letters of other alphabets -> the Latin ones they look like."""
        firsts = (0x1F130, 0x1F150, 0x1F170, 0x1F1E6, 0xE0041, 0xE0061)  # in boxes, circles, flags and tags
        boxed = {first + i: chr(ord("a") + i) for first in firsts for i in range(26)}
        return Alphabet({**boxed, **look_alikes}, {**_hidden(""), **look_alikes})


@cache
def _hidden(instead: str) -> dict[int, str]:
    """Marks, format characters and blanks that are letters by class: they change no word for a reader."""
    planes = (range(0x20000), range(0xE0000, 0xE1000))  # the others hold none
    found = (i for plane in planes for i in plane if unicodedata.category(chr(i)) in HIDDEN)
    return dict.fromkeys([*found, *map(ord, "\u115f\u1160\u3164\uffa0\u2800")], instead)


def fold(text: str, alphabet: Alphabet) -> str:
    """Lower case and Latin where it looks so, compatible forms resolved, accents and hidden characters gone."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text.translate(alphabet.before)).casefold()
    return unicodedata.normalize("NFKD", plain).translate(alphabet.after)


def read(text: str, alphabet: Alphabet) -> Reading:
    """Every way to read a text."""
    whole = WEIGHT.sub("", "\n".join(fold(each, alphabet) for each in _taken_apart(text)))
    runs = {BETWEEN.sub("", run) for run in SPELLED.findall(whole)}
    texts = _with_words_undone(whole, spelled=bool(runs))
    parts = tuple(tuple(WORD.findall(each)) for each in texts)
    words = frozenset().union(*parts, *(WORD.findall(INSIDE.sub("", each)) for each in texts if INSIDE.search(each)))
    glued = "\n".join(words)
    plain = _plain(whole, runs)
    return Reading(
        words=words,
        squeezed=frozenset(_squeezed(words, glued)),
        joined=frozenset().union(*map(_neighbours, parts)),
        parts=parts,
        solid=BETWEEN.sub("", plain),
        spelled="\n".join(_with_figures_as_letters("\n".join(runs))),
        glued=glued,
        plain=plain,
    )


def _taken_apart(text: str) -> list[str]:
    """The text, and such parts of it as read differently when humps or hidden characters are understood as spaces, or
    as they were before they were decoded wrongly. The video model's encoder mends that, and entities, before it reads.
    """
    for _ in range(ENTITIES if "&" in text else 0):
        text = html.unescape(text)
    chunks = text.split()
    texts = [" ".join(chunks), " ".join(HUMP.sub(" ", chunk) for chunk in chunks if HUMP.search(chunk))]
    if not text.isascii():
        visible = [chunk.translate(_hidden(" ")) for chunk in chunks if not chunk.isascii()]
        texts.append(" ".join(chunk for chunk in visible if " " in chunk))
        texts.append(" ".join(_mended(text)))
    return list(filter(None, texts))


def _mended(text: str) -> Iterator[str]:
    """Chunks that were decoded wrongly, as they were."""
    from ftfy import fix_encoding

    known = set(text.split())
    return (chunk for chunk in fix_encoding(text).split() if chunk not in known)


def _with_words_undone(whole: str, *, spelled: bool) -> list[str]:
    """The text, and again with spelled words joined, and with figures within words as letters."""
    joined = SPELLED.sub(lambda run: BETWEEN.sub("", run[0]), whole) if spelled else whole
    return list(dict.fromkeys([whole, *_with_figures_as_letters(joined)]))


def _with_figures_as_letters(text: str) -> list[str]:
    return [text, *(text.translate(table) for table in AS_LETTERS)] if FIGURE_WITHIN.search(text) else [text]


def _plain(whole: str, runs: Iterable[str]) -> str:
    plain = " ".join([BETWEEN.sub(" ", THOUSANDS.sub("", whole)), *runs])
    return LETTER_WITHIN.sub(lambda number: number[0].translate(AS_FIGURES), plain)


def _squeezed(words: Iterable[str], glued: str) -> Iterator[str]:
    """The words with every letter that is repeated once, but for those that would then say something else."""
    stretched = THRICE.search(glued) is not None
    for word in words:
        if len(word) >= LONG or (stretched and THRICE.search(word)):
            once = squeeze(word) if TWICE.search(word) else word
            if len(once) >= LONG or THRICE.search(word):
                yield once


def squeeze(word: str) -> str:
    return "".join(letter for letter, _ in groupby(word))


def cuts(word: str) -> Iterator[tuple[str, ...]]:
    """The two or three pieces that a word may be cut into, if one is no word by itself, having no vowel: "ch ild",
    but not "pen is"."""
    places = range(1, len(word))
    for first, second in combinations_with_replacement(places, 2):
        pieces = tuple(filter(None, (word[:first], word[first:second], word[second:])))
        if not all(VOWELS & set(piece) for piece in pieces):
            yield pieces


def _neighbours(words: Sequence[str]) -> set[str]:
    pairs = list(map(add, words, words[1:]))
    return {*pairs, *map(add, pairs, words[2:])}
