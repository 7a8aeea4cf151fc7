"""The toys that are shipped, each loaded once, and how well they are known to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from toy_facts import MEASURED

from toys.__main__ import WEIGHTS
from toys.detect import Seen, look
from toys.measure import Case, cases, picture, sdxl_engine, share
from toys.world import Wish
from workers.engines.sdxl import SdxlEngine

Pixels = np.ndarray
Draw = Callable[..., Pixels]


@pytest.fixture(scope="session")
def sdxl() -> SdxlEngine:
    return sdxl_engine(WEIGHTS)


@pytest.fixture(scope="session")
def drawn(sdxl) -> Draw:
    """A picture for a prompt, remembered: tests ask for some of them again."""
    known: dict[tuple, Pixels] = {}

    def draw(prompt: str, seed: int = 0, **changes: object) -> Pixels:
        changes = {"guidance": MEASURED["guidance"], **changes}
        key = (prompt, seed, *sorted(changes.items()))
        if key not in known:
            known[key] = picture(sdxl, Case(prompt, Wish(), seed), **changes)
        return known[key]

    return draw


@pytest.fixture(scope="session")
def answers(drawn) -> Callable[..., tuple[list[Case], list[Seen]]]:
    """A grid of prompts about one question, and what their pictures show."""

    def ask(question: str, **changes: object) -> tuple[list[Case], list[Seen]]:
        asked = cases(question, MEASURED["number"])
        return asked, [look(drawn(case.prompt, case.seed, **changes)) for case in asked]

    return ask


@pytest.fixture(scope="session")
def granted(answers) -> Callable[..., float]:
    """The share of such a grid that shows what was asked."""
    return lambda question, **changes: share(*answers(question, **changes))
