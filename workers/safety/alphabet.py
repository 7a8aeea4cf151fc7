"""What single characters are read as: other alphabets, accents, compatible forms, what hides between letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

HIDDEN = frozenset({"Mn", "Mc", "Me", "Cf"})
BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Letters by class that show nothing."""

REMEMBERED = 100_000
"""Characters of a table, some ten megabytes."""


class Table(dict[int, str]):
    """What characters become, for `str.translate`: worked out once for each, when it is first met."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, code: int) -> str:
        if len(self) >= REMEMBERED:
            self.clear()
        self[code] = found = self._rule(chr(code))
        return found


def is_hidden(letter: str) -> bool:
    """Marks, format characters and blanks: they change no word for a reader."""
    return unicodedata.category(letter) in HIDDEN or letter in BLANK


@dataclass(frozen=True, slots=True)
class Alphabet:
    """`folded`: lower case and Latin where it looks so, without accents. `symbols`: pictures as the words they say."""

    folded: Table
    symbols: Table

    @staticmethod
    def of(look_alikes: Mapping[str, str], symbols: Mapping[str, str]) -> Alphabet:
        """`look_alikes` are letters of other alphabets -> the Latin ones they look like."""
        firsts = (0x1F130, 0x1F150, 0x1F170, 0x1F1E6, 0xE0041, 0xE0061)  # in boxes, circles, flags and tags
        boxed = {chr(first + i): chr(ord("a") + i) for first in firsts for i in range(26)}
        before = {**boxed, **look_alikes}

        def folded(letter: str) -> str:
            plain = unicodedata.normalize("NFKD", before.get(letter, letter)).casefold()
            parts = unicodedata.normalize("NFKD", plain)
            return "".join(look_alikes.get(part, "" if is_hidden(part) else part) for part in parts)

        return Alphabet(Table(folded), Table(lambda letter: symbols.get(letter, letter)))

    def fold(self, text: str) -> str:
        return text.translate(self.folded)
