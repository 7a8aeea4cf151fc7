"""Emphasis in prompts, as AUTOMATIC1111 writes it: text in, weighted text out, in linear time.

`(word)` raises attention by 1.1, `[word]` lowers it by 1.1, `(word:1.3)` sets it; they nest, and weights multiply. A
backslash makes the next bracket literal. A bracket without its partner is text: what users type is never lost. The
payload's `compel_weights`, "(term:1.2), (other:0.9)", is the same notation. A weight has at most one digit before
its point, so that "(at 10:30)" keeps its time of day. `BREAK` and `AND` are words like any others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

STEP = 1.1
BOUNDS = (0.0, 3.0)
"""Beyond these a weight gives noise, and in 16 bits values that are not numbers."""
CEILING = 1e9
"""Of products on the way: infinity times nothing would be no number."""

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


def parse(prompt: str) -> list[tuple[str, float]]:
    """The prompt as (text, weight) in order; neighbours of equal weight are one text, so a plain prompt stays whole."""
    pieces = list(_PIECE.finditer(prompt))
    factors = _factors(pieces)
    parsed: list[tuple[str, float]] = []
    products = [1.0]
    for index, piece in enumerate(pieces):
        factor = factors.get(index, 1.0)
        if factor is None:
            products.pop()
        elif index in factors:
            products.append(min(products[-1] * factor, CEILING))
        else:
            _append(parsed, piece["literal"] or piece[0], min(max(products[-1], BOUNDS[0]), BOUNDS[1]))
    return parsed


def plain(prompt: str, floor: float = 0.0) -> str:
    """The text alone, without what weighs less than `floor`."""
    return "".join(text for text, weight in parse(prompt) if weight >= floor)


def _factors(pieces: Sequence[re.Match[str]]) -> dict[int, float | None]:
    """What each opening bracket with a partner multiplies by; None for the partners."""
    opened: list[int] = []
    factors: dict[int, float | None] = {}
    for index, piece in enumerate(pieces):
        if piece.lastgroup == "open":
            opened.append(index)
            continue
        factor = _factor(piece, pieces[opened[-1]][0]) if opened else None
        if factor is not None:
            factors |= {opened.pop(): factor, index: None}
    return factors


def _factor(piece: re.Match[str], bracket: str) -> float | None:
    """What a piece multiplies the text since `bracket` by, None where it closes nothing."""
    if piece["weight"] and bracket == "(":
        return float(piece["weight"])
    return {"()": STEP, "[]": 1 / STEP}.get(bracket + piece[0])


def _append(parsed: list[tuple[str, float]], text: str, weight: float) -> None:
    if parsed and parsed[-1][1] == weight:
        parsed[-1] = (parsed[-1][0] + text, weight)
    else:
        parsed.append((text, weight))
