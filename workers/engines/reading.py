"""How a text is read before any weight is touched: for whoever wants to see it without a card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """One token as text, and the weight it is read with."""

    text: str
    weight: float = 1.0


Chunks = list[list[Piece]]
"""A text, one list for each pass of the encoder."""
Read = Callable[[str], Chunks]
