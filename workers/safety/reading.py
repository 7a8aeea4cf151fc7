"""What a text says beneath its disguises: hidden characters, weights, spelled letters, figures.

A `Reading` holds every word that a text can be read as. It is wide on purpose: it only serves to look for words. It
takes some 5 ms for 4,000 characters of the worst, so all of them are gone through together, never one by one.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, compress, groupby, product
from operator import add, itemgetter

from workers.safety.alphabet import Alphabet, Table, is_hidden
from workers.safety.slips import COVER

WEIGHT = re.compile(r":\s*[+-]?\d*\.?\d+\s*(?=[)\]}])")
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z][A-Z])(?=[a-z])")
SPELLED = re.compile(r"(\b\w(?:\W{1,4}\w\b){2,})")
TWICE, THRICE = re.compile(r"(.)\1"), re.compile(r"(.)\1\1")
BETWEEN = re.compile(r"[\W_]+")
COVERED = re.compile(r"(?<![^\W\d_])[^\W\d_]++(?:\*{1,2}[^\W\d_]++)+")
THOUSANDS = re.compile(r"[,.](?<=\d.)(?=\d{3}\b)")
DIGITS, SIGNS, STOPS = "0123456789", "@$!|€+", ",."
OTHER_DIGIT = re.compile(r"[^\D0-9]")
FIGURE_WITHIN = re.compile(rf"[^\W\d][{DIGITS}{SIGNS}]|[{DIGITS}{SIGNS}][^\W\d]")
LETTER_WITHIN = re.compile(r"(?<!\w)(?:[oil]\d[oil\d]?|\d[oil])(?!\w)")
AS_FIGURES = str.maketrans("oil", "011")
ENTITIES = 3
"""How often entities are resolved, one within another."""

VOWELS = frozenset("aeiouy")
LONG = 6
"""Letters of a word that stays itself when double letters are written once: "todler", but "ten" is not "teen"."""

Pairs = tuple[tuple[str, str], ...]
MARK = "\0"
"""What stands between letters and is no space: it may part words, or be part of one."""


def _simple(sign: str) -> str:
    return sign if sign.isalnum() or sign in SIGNS or sign in STOPS else " " if sign.isspace() else MARK


def _pairs(signs: str, letters: str) -> Pairs:
    return tuple(zip(signs, letters, strict=True))


SIMPLE = Table(_simple)
AS_MARKS = _pairs(STOPS, MARK * len(STOPS))
AS_GAPS = _pairs(DIGITS + SIGNS, " " * len(DIGITS) + MARK * len(SIGNS)) + AS_MARKS
AS_LETTERS = tuple(_pairs(DIGITS + SIGNS, f"o{one}zeasgtbgasi{one}et") + AS_MARKS for one in "il")
AS_SPACES = _pairs(SIGNS + STOPS + MARK, " " * len(SIGNS + STOPS + MARK))
AS_COVERS = _pairs("#%_", COVER * 3)
"""What signs are read as, one after the other: faster than a table where most of a text is none of them."""

VISIBLE = Table(lambda sign: " " if is_hidden(sign) else sign)


@dataclass(frozen=True, slots=True)
class Reading:
    """`words` stand alone, `squeezed` are the same with double letters once. `joined` are two or three neighbours
    without the space between them, from `parts`. `solid` is the text without anything between its letters, `spelled`
    what stands in single letters, `glued` all words, `plain` the text with one space between words and figures,
    `covered` the words in which signs stand for letters."""

    words: frozenset[str]
    squeezed: frozenset[str]
    joined: frozenset[str]
    parts: tuple[Sequence[str], ...]
    solid: str
    spelled: str
    glued: str
    plain: str
    covered: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for, of all classes together: a reading need not keep what is none of it. Words in one piece and
    what they begin with, and the same with double letters once and how they may begin and end, two letters each."""

    joined: frozenset[str]
    begun: frozenset[str]
    squeezed: frozenset[str]
    ends: frozenset[str]

    @staticmethod
    def of(joined: frozenset[str], squeezed: frozenset[str]) -> Sought:
        begun = frozenset(word[:length] for word in joined for length in range(1, len(word) + 1))
        return Sought(joined, begun, squeezed, frozenset(end for word in squeezed for end in _ends(word)))


def _ends(squeezed: str) -> Iterator[str]:
    """First and last two letters, either of which may be the same one twice in the word as it was written."""
    first, last = squeezed[0], squeezed[-1]
    for begin, end in product({squeezed[:2], first + first}, {squeezed[-2:], last + last}):
        yield begin + end


def read(text: str, alphabet: Alphabet, sought: Sought) -> Reading:
    """Every way to read a text."""
    whole = WEIGHT.sub("", "\n".join(map(alphabet.fold, _taken_apart(text.translate(alphabet.symbols)))))
    simple = whole.translate(SIMPLE)
    texts, runs = _with_words_undone(simple)
    parts = tuple(text.replace(MARK, " ").split() for text in texts)
    words = frozenset().union(*parts, *(text.replace(MARK, "").split() for text in texts))
    plain = _plain(simple, runs)
    return Reading(
        words=words,
        squeezed=frozenset(_squeezed(words, sought)),
        joined=frozenset().union(*(_neighbours(each, sought) for each in parts)),
        parts=parts,
        solid=plain.replace(" ", ""),
        spelled="\n".join([*runs, *_with_figures_as_letters("\n".join(runs))]),
        glued="\n".join(words),
        plain=plain,
        covered=frozenset(_covered(whole)),
    )


def _taken_apart(text: str) -> list[str]:
    """The text, and such parts of it as read differently when humps or hidden characters are understood as spaces, or
    as they were before they were decoded wrongly. The video model's encoder mends that, and entities, before it reads.
    """
    text = _resolved(text)
    chunks = text.split()
    texts = [" ".join(chunks), " ".join(HUMP.sub(" ", chunk) for chunk in chunks if HUMP.search(chunk))]
    if not text.isascii():
        visible = [chunk.translate(VISIBLE) for chunk in chunks if not chunk.isascii()]
        texts.append(" ".join(chunk for chunk in visible if " " in chunk))
        texts.append(" ".join(_mended(text)))
    return list(filter(None, texts))


def _resolved(text: str) -> str:
    """Without entities, also those within others."""
    for _ in range(ENTITIES):
        if "&" not in text or (resolved := html.unescape(text)) == text:
            break
        text = resolved
    return text


def _mended(text: str) -> Iterator[str]:
    """Chunks that were decoded wrongly, as they were."""
    from ftfy import fix_encoding

    known = set(text.split())
    return (chunk for chunk in fix_encoding(text).split() if chunk not in known)


def _with_words_undone(simple: str) -> tuple[list[str], list[str]]:
    """Letters, spaces and marks of the text, and again with spelled words joined, and with figures within words as
    letters; and the words that were spelled."""
    pieces = SPELLED.split(simple)
    runs = pieces[1::2] = [BETWEEN.sub("", run) for run in pieces[1::2]]
    joined = "".join(pieces)
    apart = tuple((digit, " ") for digit in set(OTHER_DIGIT.findall(simple)))
    texts = [_replaced(text, AS_GAPS + apart) for text in ((simple, joined) if runs else (simple,))]
    return texts + _with_figures_as_letters(joined, apart), list(dict.fromkeys(runs))


def _with_figures_as_letters(text: str, apart: Pairs = ()) -> list[str]:
    if not FIGURE_WITHIN.search(text):
        return []
    return list(dict.fromkeys(_replaced(text, letters + apart) for letters in AS_LETTERS))


def _replaced(text: str, pairs: Pairs) -> str:
    for sign, letter in pairs:
        text = text.replace(sign, letter)
    return text


def _plain(simple: str, runs: Iterable[str]) -> str:
    plain = " ".join([*_replaced(THOUSANDS.sub("", simple), AS_SPACES).split(), *runs])
    return LETTER_WITHIN.sub(lambda number: number[0].translate(AS_FIGURES), plain)


def _covered(whole: str) -> list[str]:
    """Words within which a sign stands for one letter or two, with one sign for all."""
    text = _replaced(whole, AS_COVERS)
    return COVERED.findall(text) if COVER in text else []


def _squeezed(words: Collection[str], sought: Sought) -> Iterator[str]:
    """Words that are sought when every letter that is repeated is written once, but for those that would then say
    something else."""
    ends = map(add, map(itemgetter(slice(0, 2)), words), map(itemgetter(slice(-2, None)), words))
    for word in compress(words, map(sought.ends.__contains__, ends)):
        once = squeeze(word) if TWICE.search(word) else word
        if once in sought.squeezed and (len(once) >= LONG or THRICE.search(word)):
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


def _neighbours(words: Sequence[str], sought: Sought) -> frozenset[str]:
    """What is sought and stands there as two or three neighbours."""
    pairs = list(map(add, words, words[1:]))
    begun = list(map(sought.begun.__contains__, pairs))
    threes = map("".join, compress(zip(pairs, words[2:], strict=False), begun))
    return sought.joined.intersection(compress(pairs, begun)) | sought.joined.intersection(threes)
