"""Gate G1: what the words of a job ask for. Pure; says which rule refuses them, if one does.

Everything that the model will be shown is read as one text. The negative prompt names what shall not be seen, so it is
read by itself: it is refused where it holds what would be refused in a prompt, but "no children" beside an adult
subject is none of that. A negative weight turns words around, so then it is read as part of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workers.safety.lexicon import Lexicon
from workers.safety.persons import named
from workers.safety.reading import Reading

Rule = Literal["minor_sexual", "age_sexual", "minor_adult", "age_adult", "youth_adult", "person_adult"]
TURNED = re.compile(r":\s*-\s*[\d.]")


@dataclass(frozen=True, slots=True)
class Wording:
    """`shown`: every text that says what shall be seen. `unwanted`: the negative prompt."""

    shown: Sequence[str]
    unwanted: str = ""


def judge(said: Wording, lexicon: Lexicon, *, adult: bool, persons: frozenset[str] = frozenset()) -> Rule | None:
    """The rule by which a job of this rating is refused. No rating and no tier switches the first two off."""
    turned = TURNED.search(said.unwanted) is not None
    shown = lexicon.read("\n".join([*said.shown, *([said.unwanted] if turned else [])]))
    return (
        _of_minors(shown, lexicon, adult=False)
        or _of_minors(lexicon.read(said.unwanted), lexicon, adult=False)
        or (_in_adult_work(shown, lexicon, persons) if adult else None)
    )


def _of_minors(reading: Reading, lexicon: Lexicon, *, adult: bool) -> Rule | None:
    minor, age = lexicon.minor.found(reading), lexicon.ages.minor(reading)
    if not (minor or age):
        return None
    if lexicon.sexual.found(reading):
        return "minor_sexual" if minor else "age_sexual"
    if adult:
        return "minor_adult" if minor else "age_adult"
    return None


def _in_adult_work(reading: Reading, lexicon: Lexicon, persons: frozenset[str]) -> Rule | None:
    """The rating itself is the sexual context; what may mean a minor is not asked about."""
    if rule := _of_minors(reading, lexicon, adult=True):
        return rule
    if lexicon.youth.found(reading):
        return "youth_adult"
    return "person_adult" if named(reading, persons) else None
