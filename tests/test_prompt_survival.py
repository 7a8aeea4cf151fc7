"""Whatever users type reaches the model: hostile prompts through the rules, the emphasis and the true tokenizer."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from math import isfinite
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prompt import CRITICAL, FITTED, SDXL, SHIPPED, WAN_IMAGE, WAN_VIDEO, job, terms

from workers.card.weights import quiet_libraries
from workers.engines.sdxl.encode import split, tokenize
from workers.engines.sdxl.load import tokenizers
from workers.job import Preset
from workers.prompting import emphasis
from workers.prompting.prompt import compose

PRESETS = (SDXL, WAN_IMAGE, WAN_VIDEO)
BICYCLE = "a red bicycle"


@cache
def clip() -> Any:
    quiet_libraries()
    return tokenizers()["tokenizer"]


def count(text: str) -> int:
    return len(tokenize(text, clip()))


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\W\d_]+", text.lower()))


HOSTILE = {
    "nested brackets": f"((((((((({BICYCLE}:1.2)))))))))",
    "mixed nesting": f"[({BICYCLE}]) [[(old:1.3) (rust:0.7)]]",
    "escaped brackets": rf"{BICYCLE} \(vintage\) \[1950\] \\",
    "unbalanced": f"((({BICYCLE} [rust",
    "closings only": f"{BICYCLE} ))) ]]]",
    "emoji": f"🚲🚲🚲 {BICYCLE} 👩‍👩‍👧 in the sun 🌞",
    "Chinese": "一辆红色的自行车，靠在白墙上，" * 30,
    "Japanese and Arabic": "夕暮れの灯台、دراجة حمراء",
    "100 kB": f"{BICYCLE}, a lighthouse at dusk, " * 3_000,
    "brackets without end": "(" * 2_000 + BICYCLE + ")" * 2_000,
    "a weight without end": f"{BICYCLE} (x:" + "1" * 2_000 + ")",
    "colons without end": f"{BICYCLE} " + ": " * 2_000,
    "commas only": ",,,, , ,,,",
    "one word of 300 tokens": "bicycle" * 300,
    "BREAK": f"{BICYCLE} BREAK a lighthouse BREAK",
    "AND": f"{BICYCLE} AND a lighthouse AND :1.2",
    "a weight of nothing": f"({BICYCLE}:0)",
    "a negative weight": f"({BICYCLE}:-1.5)",
    "no number": f"({BICYCLE}:nan) (rust:inf)",
    "a billion": f"({BICYCLE}:1e9) (rust:1000000000)",
    "nothing of a lot": "(" * 4_000 + "(rust:0)" + ")" * 4_000,
    "a time of day": f"{BICYCLE} (at 10:30)",
    "a smile": f"{BICYCLE} :) :( :]",
    "a trailing backslash": f"{BICYCLE} \\",
    "marks of the tokenizer": f"{BICYCLE} <|startoftext|> a lighthouse",
    "white": "   ",
    "empty": "",
}


@pytest.mark.parametrize("prompt", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_prompt_loses_no_word_and_becomes_no_other(prompt: str) -> None:
    for preset in PRESETS:
        composed = compose(job(prompt, negative_prompt=prompt), preset, FITTED, rating="adult", count=count)
        assert words(prompt) <= words(composed.prompt)
        assert words(prompt).keys() <= words(composed.negative_prompt).keys()
    parsed = emphasis.parse(prompt)
    assert words(prompt) == words("".join(text for text, _ in parsed))
    assert all(isfinite(weight) and 0.0 <= weight <= 3.0 for _, weight in parsed)


@pytest.mark.parametrize("prompt", HOSTILE.values(), ids=HOSTILE.keys())
def test_every_token_of_a_hostile_prompt_lies_in_one_chunk(prompt: str) -> None:
    tokens = tokenize(prompt, clip())
    chunks = split(tokens)
    assert [token for chunk in chunks for token in chunk] == tokens
    assert all(len(chunk) <= 75 for chunk in chunks)
    assert all(len(chunk) > 37 for chunk in chunks[:-1])


PLAYED_DOWN = ["(bad anatomy:0)", "(deformed, extra limbs:0.1)", "[missing limbs]", "((deformed:0.2):1.5)"]


@pytest.mark.parametrize("negative", PLAYED_DOWN)
def test_a_user_who_plays_a_critical_negative_down_gets_it_all_the_same(negative: str) -> None:
    composed = compose(job(negative_prompt=negative), SDXL, SHIPPED, rating="sfw")
    assert set(CRITICAL) <= set(terms(composed.negative_prompt))


PIECES = st.sampled_from([BICYCLE, "dusk", "(rust:1.3)", "best quality", "bad anatomy", ",(", "]", "\\", "灯", "🚲"])
PROMPTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=60).map(" ".join))


@settings(max_examples=80)
@given(PROMPTS, PROMPTS, st.sampled_from(PRESETS), st.sampled_from(SHIPPED.tiers), st.sampled_from(["sfw", "adult"]))
def test_the_budget_holds_for_additions_and_never_for_users(
    prompt: str, negative: str, preset: Preset, tier: str, rating: Any
) -> None:
    typed = job(prompt, negative_prompt=negative, tier=tier)
    composed = compose(typed, preset, FITTED, rating=rating, count=count)
    assert composed == compose(typed, preset, FITTED, rating=rating, count=count)
    assert words(prompt) <= words(composed.prompt)
    assert words(negative).keys() <= words(composed.negative_prompt).keys()
    limit, style = FITTED.models[preset.kind].tokens, [d for d in composed.decisions if d.part == "prompt"]
    assert composed.tokens is not None
    assert composed.tokens <= limit or all(d.fate != "added" for d in style)
    always = [d.term.text for d in composed.decisions if d.term.always]
    assert {d.term.text for d in composed.decisions if d.fate == "no room"}.isdisjoint(always)
    assert composed.negative_tokens is not None
    assert composed.negative_tokens <= limit or not [
        d for d in composed.decisions if d.part == "negative_prompt" and d.fate == "added" and not d.term.always
    ]


@settings(max_examples=60)
@given(PROMPTS, st.sampled_from(PRESETS))
def test_additions_stand_in_their_order_and_what_is_composed_again_gains_nothing(prompt: str, preset: Preset) -> None:
    once = compose(job(prompt), preset, SHIPPED, rating="adult", count=count)
    order = [d.term.text for d in once.decisions]
    assert [order.index(term) for term in once.added] == sorted(order.index(term) for term in once.added)
    assert len(set(once.added)) == len(once.added)
    again = compose(
        replace(job(once.prompt), negative_prompt=once.negative_prompt), preset, SHIPPED, rating="adult", count=count
    )
    assert (again.prompt, again.negative_prompt) == (once.prompt, once.negative_prompt)
