"""Whether an enhancer's answer may stand for the user's prompt, and what of it: text in, text out, pure.

The enhancer is an untrusted writer: it refuses, rambles, changes language, or forgets whom the picture is of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from workers.prompting.rules import GuardRules

CHINESE = "\u3400-\u9fff"
WORD = re.compile(rf"[{CHINESE}]|(?:(?![{CHINESE}])[^\W_])+(?:'(?:(?![{CHINESE}])[^\W_])+)*")
FENCE = re.compile(r"```[a-z]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
MARKDOWN = re.compile(r"^\s*(?:#{1,6}|[-*•>]|\d+[.)])\s+|^\s*[-*_]{3,}\s*$|\*\*|__|`|</?[a-z]+/?>", re.MULTILINE)
MARK = re.compile(r"<\|\w+\|>")
SENTENCE_END = re.compile(r"""[.!?]["')\]]*(?=\s|\Z)|[。！？]""")
QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("「", "」"), ("《", "》"))

LONGEST_WORD = 60
FOREIGN_SHARE = 0.1
GRAM = 4
DISTINCT_GRAMS = 0.6
DISTINCT_WORDS = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """`text` is what to generate from: the original unless `done`."""

    text: str
    status: Literal["done", "refused", "failed"]


def judge(original: str, answer: str, rules: GuardRules, *, max_words: int) -> Verdict:
    """Read an answer. Where words of the original are missing from it, the original is put in front."""
    if refuses(original, answer, rules.refusals):
        return Verdict(original, "refused")
    text = whole_sentences(without_talk(original, clean(answer, rules), rules), max_words)
    wanted = content_words(original, rules)
    found = words(text)
    lost = [word for word in wanted if word not in found]
    useless = not found or unreadable(text) or foreign(original, text, rules) or loops(found)
    if useless or (wanted and len(lost) == len(wanted)):
        return Verdict(original, "failed")
    return Verdict(_after(original, text) if lost else text, "done")


def refuses(original: str, answer: str, phrases: tuple[str, ...]) -> bool:
    """Whether the answer says no. A phrase that the original has too is part of the picture."""
    asked, said = _folded(original), _folded(answer)
    return any(_says(said, phrase) and not _says(asked, phrase) for phrase in phrases)


def clean(answer: str, rules: GuardRules) -> str:
    """The description alone, on one line: no fence, markdown, quotes, nor talk before and after it, and nothing from
    behind a mark by which models tell speakers apart."""
    answer = next(filter(str.strip, MARK.split(answer)), "")
    fenced = FENCE.search(answer)
    text = fenced[1] if fenced and fenced[1].strip() else answer
    text = MARKDOWN.sub("", text.replace("’", "'")).strip()
    before = None
    while before != text:
        before = text
        for pattern in rules.preambles:
            text = re.sub(rf"\A(?:{pattern})\s*", "", text, count=1, flags=re.IGNORECASE)
        text = _unquoted(text)
    for pattern in rules.epilogues:
        text = re.split(rf"(?<=[.!?。！？\n\"'])\s*(?:{pattern})", text, maxsplit=1, flags=re.IGNORECASE)[0]
    return _unquoted(" ".join(text.split()))


def without_talk(original: str, text: str, rules: GuardRules) -> str:
    """Without the sentences that explain the answer. What the original talks of, too, is part of the picture."""
    patterns = [re.compile(pattern, re.IGNORECASE) for pattern in rules.talk]
    patterns = [pattern for pattern in patterns if not pattern.search(original)]
    sentences = [text[a:b] for a, b in pairwise([0, *(m.end() for m in SENTENCE_END.finditer(text)), len(text)])]
    kept = [sentence for sentence in sentences if not any(pattern.search(sentence) for pattern in patterns)]
    return text if len(kept) == len(sentences) else "".join(kept).strip()


def whole_sentences(text: str, max_words: int) -> str:
    """At most `max_words`, ending with a sentence where that keeps at least half of the text."""
    ends = [match.end() for match in WORD.finditer(text)]
    room = len(text) if len(ends) <= max_words else ends[max_words - 1] + 1
    stops = [match.end() for match in SENTENCE_END.finditer(text) if match.end() <= room]
    if stops and stops[-1] >= room / 2:
        return text[: stops[-1]]
    return text[:room].rstrip(" ,;:")


def loops(said: Sequence[object]) -> bool:
    """Whether words or tokens go round in circles: many runs of four occur more than once."""
    if len(said) < GRAM:
        return False
    if len(said) < GRAM * 3:
        return len(set(said)) < DISTINCT_WORDS * len(said)
    grams = list(zip(*(said[i:] for i in range(GRAM)), strict=False))
    return len(set(grams)) < DISTINCT_GRAMS * len(grams)


def unreadable(text: str) -> bool:
    """Bytes that are no text, or one endless word."""
    return "\ufffd" in text or any(len(word) > LONGEST_WORD for word in words(text))


def foreign(original: str, text: str, rules: GuardRules) -> bool:
    """Whether a prompt in Latin letters was answered in others, or one without small words of another language in
    that language."""
    letters = [c for c in text if c.isalpha()]
    others = sum(not _latin(c) for c in letters)
    if all(map(_latin, original)) and others > FOREIGN_SHARE * len(letters):
        return True
    said, small = words(text), rules.foreign_words
    return small.isdisjoint(words(original)) and sum(word in small for word in said) > FOREIGN_SHARE * len(said)


def content_words(text: str, rules: GuardRules) -> list[str]:
    """The words that an answer has to keep, each once; a Chinese character counts as a word."""
    return list(dict.fromkeys(word for word in words(text) if word not in rules.function_words))


def words(text: str) -> list[str]:
    return [word.removesuffix("'s") for word in WORD.findall(_folded(text))]


def _folded(text: str) -> str:
    return text.replace("’", "'").lower()


def _says(text: str, phrase: str) -> bool:
    """English phrases as whole words ("as an ai" is not in "as an airship"), Chinese ones anywhere."""
    edge = r"\b" if phrase.isascii() else ""
    return re.search(f"{edge}{re.escape(phrase)}{edge}", text) is not None


def _latin(char: str) -> bool:
    return not char.isalpha() or ord(char) < 0x250


def _unquoted(text: str) -> str:
    """Without one pair of quotation marks around the whole, or an opening one that is never closed."""
    text = text.strip()
    for opening, closing in QUOTES:
        if not text.startswith(opening):
            continue
        inside = text[1:].removesuffix(closing)
        if closing == "'" or closing not in inside:
            return inside.strip()
    return text


def _after(original: str, text: str) -> str:
    original = original.strip()
    return f"{original} {text}" if original[-1] in ".!?。！？" else f"{original}. {text}"
