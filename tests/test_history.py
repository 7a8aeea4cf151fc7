"""The reader of histories finds every broken promise, and nothing in what is allowed; histories written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.chaos.history import RULES, History, Hold, Word, Write, check

JOB, OTHER = "a job", "another job"
PATH = "a user/a job/0.png"
FAILED: dict[str, Any] = {"status": "failed", "paths": (), "effect": "a sentence"}
PROCESSING: dict[str, Any] = {"status": "processing", "paths": (), "effect": "", "fence": None}
SECOND: dict[str, Any] = {"sender": "second", "fence": 8}


def told(at: float, **values: Any) -> Word:
    """A completion by the first worker, unless said otherwise."""
    return replace(Word(JOB, "completed", at, sender="first", fence=7, effect="a picture", paths=(PATH,)), **values)


def stored(at: float, content: str = "red", sender: str = "first", **values: Any) -> Write:
    return replace(Write(JOB, PATH, content, at, sender), **values)


def history(*effects: Word | Write, **values: Any) -> History:
    """One acknowledged job, with what befell it in order."""
    words = tuple(effect for effect in effects if isinstance(effect, Word))
    writes = tuple(effect for effect in effects if isinstance(effect, Write))
    return replace(History(frozenset({JOB}), words=words, writes=writes), **values)


TAKEN_OVER = {"holds": (Hold(JOB, 7, "first", at=1.0), Hold(JOB, 8, "second", at=5.0))}

ALLOWED = {
    "stored, then told": history(stored(2), told(3)),
    "announced first": history(told(1, **PROCESSING), stored(2), told(3)),
    "told the same twice": history(stored(2), told(3), told(4)),
    "told the same by a successor": history(stored(2), told(3), told(6, **SECOND), **TAKEN_OVER),
    "not accepted at first": history(stored(2), told(3, accepted=False), told(4)),
    "made anew before anybody was told": history(
        stored(2), stored(6, "blue", "second"), told(7, **SECOND), **TAKEN_OVER
    ),
    "stored again with the same bytes": history(stored(2), told(3), stored(6, sender="second"), **TAKEN_OVER),
    "failed with a word": history(told(3, **FAILED)),
    "never acknowledged and never made": history(stored(2), told(3), known=frozenset({OTHER})),
    "withdrawn before anybody had it": history(withdrawn=frozenset({JOB})),
}
BROKEN = {
    "never told": ("lost", history(stored(2))),
    "only announced": ("lost", history(told(1, **PROCESSING))),
    "never accepted": ("lost", history(stored(2), told(3, accepted=False))),
    "told two different things": ("double", history(stored(2), told(3), told(4, effect="another picture"))),
    "completed after failed": ("changed its mind", history(told(1, **FAILED), stored(2), told(3))),
    "failed after completed": ("changed its mind", history(stored(2), told(3), told(4, **FAILED))),
    "told of a job nobody queued": ("unknown", history(stored(2), told(3), told(4, job=OTHER))),
    "stored for a job nobody queued": ("unknown", history(stored(2), told(3), stored(4, job=OTHER))),
    "made although it was withdrawn": ("withdrawn", history(stored(2), told(3), withdrawn=frozenset({JOB}))),
    "told under a lower fence later": ("fence fell", history(stored(2), told(3, **SECOND), told(4))),
    "told before it was stored": ("missing", history(told(1), stored(2))),
    "told of what was never stored": ("missing", history(told(1))),
    "other bytes after the end": ("overwritten", history(stored(2), told(3), stored(4, "blue"))),
    "stored after somebody took over": ("stale", history(stored(6), told(7, **SECOND), **TAKEN_OVER)),
    "told after somebody took over": ("stale", history(stored(2), told(6), **TAKEN_OVER)),
    "announced after somebody took over": (
        "stale", history(stored(2), told(6, **PROCESSING), told(7, **SECOND), **TAKEN_OVER)
    ),
    "its row was opened again": ("reopened", history(stored(2), told(3), rows={JOB: "processing"})),
    "its picture is not shown": ("unseen", history(stored(2), told(3), unseen=frozenset({JOB}))),
}  # fmt: skip


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_allowed_is_not_reported(case):
    assert check(ALLOWED[case]) == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_promise_is_found(case):
    rule, found = BROKEN[case]
    assert rule in {finding.rule for finding in check(found)}


def test_every_rule_is_tried_here():
    assert {rule for rule, _ in BROKEN.values()} == {rule.__name__.replace("_", " ") for rule in RULES}


def test_a_finding_names_its_job():
    (finding,) = check(history())
    assert (finding.rule, finding.job) == ("lost", JOB)
