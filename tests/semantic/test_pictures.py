"""Pictures of the SDXL toy show what their prompts say: read off the pixels, held to what was measured."""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from toy_facts import MEASURED

from toys import world
from toys.detect import grants, look
from toys.measure import PICTURE, QUESTIONS, SIDES, Case, picture, share
from toys.world import Item, Wish
from workers.engines.sdxl import encode
from workers.job import Guide, Picture
from workers.references.guide import REFERENCE
from workers.watch import Watch

SAID = MEASURED["pictures"]
PROMPT = "a red circle on a blue background"
SEEDS, MORE_SEEDS = range(8), range(10)
GUIDANCE = MEASURED["guidance"]
OTHER_WORDS = ", ".join(["soft light", "calm mood", "fine detail", "balanced composition"] * 7)
LONG = f"{OTHER_WORDS}, {PROMPT}"


def distance(one, other) -> float:
    """Root mean square, in grey values."""
    return float(np.sqrt(np.mean((one.astype(float) - other) ** 2)))


def redness(picture) -> float:
    """How much more red than blue there is, in grey values."""
    return float(picture[..., 0].mean() - picture[..., 2].mean())


def shows(picture, *, colour=None, background=None) -> bool:
    seen = look(picture)
    wrong = background not in (None, seen.background)
    return not wrong and (colour is None or any(blob.colour == colour for blob in seen.blobs))


def part(draw, prompt, **wanted) -> float:
    """The share of pictures, one for each seed, that show it."""
    return float(np.mean([shows(draw(prompt, seed), **wanted) for seed in SEEDS]))


@pytest.mark.parametrize("question", QUESTIONS)
def test_pictures_show_what_is_asked_and_not_what_another_prompt_asks(answers, question):
    asked, seen = answers(question)
    assert share(asked, seen) >= SAID[question]["least"] > share(asked, seen, shuffled=True)


def test_the_negative_prompt_removes_what_it_names(drawn):
    prompt, left = "a circle on a white background", []
    for seed in MORE_SEEDS:
        for colour in {blob.colour for blob in look(drawn(prompt, seed)).blobs}:
            left.append(shows(drawn(prompt, seed, negative_prompt=f"{colour} circle"), colour=colour))
    assert len(left) >= len(SEEDS)
    assert np.mean(left) <= SAID["negative"]["most"]


def test_higher_guidance_follows_more(granted):
    assert granted("colour") - granted("colour", guidance=1.0) >= SAID["guidance"]["least"]


def test_more_steps_show_the_same_picture(drawn):
    apart = [distance(drawn(PROMPT, seed), drawn(PROMPT, seed, steps=25)) for seed in SEEDS]
    strangers = [distance(drawn(PROMPT, seed), drawn(PROMPT, seed + 1)) for seed in SEEDS[:-1]]
    assert np.median(apart) <= SAID["steps"]["most"] < np.median(strangers)


def test_a_seed_means_one_picture(sdxl, drawn):
    assert (picture(sdxl, Case(PROMPT, Wish(), seed=3), guidance=GUIDANCE) == drawn(PROMPT, 3)).all()
    assert distance(drawn(PROMPT, 3), drawn(PROMPT, 4)) > SAID["six"]["apart"]


def test_six_pictures_of_a_job_differ_and_each_shows_the_prompt(sdxl):
    outputs = sdxl.generate(replace(PICTURE, guidance=GUIDANCE, prompt=PROMPT, seeds=tuple(range(6))), Watch())
    pictures = [output.frames[0] for output in outputs]
    assert min(distance(a, b) for a, b in itertools.combinations(pictures, 2)) > SAID["six"]["apart"]
    assert np.mean([shows(p, background="blue") for p in pictures]) >= SAID["six"]["least"]


def test_the_last_words_of_a_long_prompt_are_seen(sdxl, drawn):
    assert sdxl.count_tokens(LONG) > 77
    assert part(drawn, LONG, colour="red", background="blue") >= SAID["long"]["least"]


def test_words_that_are_cut_off_are_not_seen(sdxl, monkeypatch):
    monkeypatch.setattr(encode, "split", lambda tokens, room=encode.ROOM: [tokens[:room]])
    sdxl._texts.forget()
    cut = part(
        lambda prompt, seed: picture(sdxl, Case(prompt, Wish(), seed), guidance=GUIDANCE),
        LONG,
        colour="red",
        background="blue",
    )
    sdxl._texts.forget()
    assert cut < SAID["long"]["least"]


def test_weights_move_the_picture_towards_the_heavier_word(drawn):
    heavier = {
        "red": "a white circle, (red background:1.5), (blue background:0.3)",
        "blue": "a white circle, (red background:0.3), (blue background:1.5)",
    }
    redder = [redness(drawn(heavier["red"], seed)) > redness(drawn(heavier["blue"], seed)) for seed in MORE_SEEDS]
    assert np.mean(redder) >= SAID["weights"]["least"]


def test_a_picture_to_begin_from_keeps_its_layout_where_little_is_changed(sdxl):
    kept = {change: np.mean([lies_where_it_lay(sdxl, seed, change) for seed in SEEDS]) for change in (0.3, 1.0)}
    assert kept[0.3] - kept[1.0] >= SAID["begun"]["least"]


def lies_where_it_lay(sdxl, seed, change) -> bool:
    """Begun from a red circle at some side, asked for one without a place."""
    place = SIDES[seed % len(SIDES)]
    wish = Wish((Item("circle", "red", "big", place),), count=1, background="white")
    pixels = world.draw(world.fill(wish, Random(seed), width=64, height=64)[1], width=64, height=64)[0]
    guide = Guide("start", change=change, pictures={REFERENCE: Picture((64, 64), pixels.tobytes())})
    made = picture(sdxl, Case("a circle on a white background", Wish(), seed), guide=guide, guidance=GUIDANCE)
    return grants(Wish((Item(place=place),)), look(made))
