"""Emphasis in prompts, as AUTOMATIC1111 writes it: text in, weighted text out, without any library.

`(word)` raises attention by 1.1, `[word]` lowers it by 1.1, `(word:1.3)` sets it; they nest, and weights multiply. A
backslash makes the next bracket literal. A bracket without its partner is text: what users type is never lost. The
payload's `compel_weights`, "(term:1.2), (other:0.9)", is the same notation. A weight has at most one digit before
its point, so that "(at 10:30)" keeps its time of day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STEP = 1.1
BOUNDS = (0.0, 3.0)
"""Beyond these a weight gives noise, and in 16 bits values that are not numbers."""

_PIECE = re.compile(
    r"""
    \\(?P<literal>[\\()\[\]])
    | (?P<open>[(\[])
    | :\s*(?P<weight>[+-]?(?:\d?\.\d{1,9}|\d))\s*\)
    | (?P<close>[)\]])
    | (?P<text>[^\\()\[\]:]+|[:\\])
    """,
    re.VERBOSE,
)


@dataclass(slots=True)
class Fragment:
    text: str
    weight: float = 1.0


def parse(prompt: str) -> list[tuple[str, float]]:
    """The prompt as (text, weight) in order; neighbours of equal weight are one text, so a plain prompt stays whole."""
    fragments: list[Fragment] = []
    opened: list[int] = []
    for match in _PIECE.finditer(prompt):
        kind, text = str(match.lastgroup), match[str(match.lastgroup)]
        factor = _factor(kind, text, fragments[opened[-1]].text if opened else "")
        if factor is not None:
            _close(fragments, opened.pop(), factor)
            continue
        if kind == "open":
            opened.append(len(fragments))
        fragments.append(Fragment(match[0] if kind == "weight" else text))
    return _joined(fragments)


def _factor(kind: str, text: str, bracket: str) -> float | None:
    """What a piece multiplies the text since `bracket` by, None where it closes nothing."""
    if kind == "weight" and bracket == "(":
        return float(text)
    if kind == "close" and bracket + text == "()":
        return STEP
    if kind == "close" and bracket + text == "[]":
        return 1 / STEP
    return None


def _close(fragments: list[Fragment], start: int, factor: float) -> None:
    fragments[start].text = ""
    for fragment in fragments[start:]:
        fragment.weight *= factor


def _joined(fragments: list[Fragment]) -> list[tuple[str, float]]:
    joined: list[tuple[str, float]] = []
    for fragment in fragments:
        weight = min(max(fragment.weight, BOUNDS[0]), BOUNDS[1])
        if joined and joined[-1][1] == weight:
            joined[-1] = (joined[-1][0] + fragment.text, weight)
        elif fragment.text:
            joined.append((fragment.text, weight))
    return joined
