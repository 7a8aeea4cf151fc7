"""Gate G1: what the words of a job ask for. Pure; says which rule refuses them, if one does.

Everything that the model will be shown is read as one text. The negative prompt names what shall not be seen, so it is
read by itself: it is refused where it holds what would be refused in a prompt, but "no children" beside an adult
subject is none of that. A negative weight turns words around, so then it is read as part of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from workers.safety.lexicon import Lexicon
from workers.safety.persons import named
from workers.safety.reading import Reading

Rule = Literal["minor_sexual", "age_sexual", "minor_adult", "age_adult", "youth_adult", "person_adult"]
Minor = Literal["minor", "age"]
SEXUAL: Mapping[Minor, Rule] = {"minor": "minor_sexual", "age": "age_sexual"}
ADULT: Mapping[Minor, Rule] = {"minor": "minor_adult", "age": "age_adult"}
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
    unwanted = lexicon.read(said.unwanted)
    minor = _minor(shown, lexicon)
    if minor and lexicon.sexual.found(shown):
        return SEXUAL[minor]
    if (unwanted_minor := _minor(unwanted, lexicon)) and lexicon.sexual.found(unwanted):
        return SEXUAL[unwanted_minor]
    return _in_adult_work(shown, minor, lexicon, persons) if adult else None


def _minor(reading: Reading, lexicon: Lexicon) -> Minor | None:
    """By which words a text speaks of one, if it does."""
    if lexicon.minor.found(reading):
        return "minor"
    return "age" if lexicon.ages.minor(reading) else None


def _in_adult_work(reading: Reading, minor: Minor | None, lexicon: Lexicon, persons: frozenset[str]) -> Rule | None:
    """The rating itself is the sexual context; what may mean a minor is not asked about."""
    if minor:
        return ADULT[minor]
    if lexicon.youth.found(reading):
        return "youth_adult"
    return "person_adult" if named(reading, persons) else None
