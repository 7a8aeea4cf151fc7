"""The enhancer toy writes more than it was given, in the user's words, whichever way it is asked."""

from __future__ import annotations

import pytest
from toy_facts import MEASURED

from toys.__main__ import WEIGHTS
from toys.measure_words import answer, enhancer, facts, held_out, keeps_facts, share_kept
from toys.train_qwen import corpus
from workers.engines.qwen.guard import content_words, words
from workers.prompting.rules import load_rules
from workers.watch import Watch

SAID = MEASURED["enhancer"]
ASKED = held_out(SAID["number"])
RULES = load_rules().enhance


@pytest.fixture(scope="module", params=["base", "instruct"])
def engine(request):
    return enhancer(WEIGHTS, request.param)


@pytest.fixture(scope="module")
def answers(engine):
    """What the model itself says to each prompt: nothing is put in front of it."""
    return [answer(engine, asked) for asked in ASKED]


@pytest.fixture(scope="module")
def enhanced(engine):
    """What a job gets."""
    return [engine.enhance(asked.prompt, asked.media, asked.seed, Watch()) for asked in ASKED[:8]]


def test_answers_keep_every_fact_of_the_prompt_and_add_none(answers):
    assert share_kept(ASKED, answers) >= SAID["kept"]["least"]


def test_answers_to_other_prompts_would_not_pass(answers):
    assert share_kept(ASKED, answers, shuffled=True) < SAID["kept"]["least"] / 2


def test_answers_are_written_in_the_words_of_the_world(answers):
    known = {word for text in corpus() for word in words(text)}
    assert {word for said in answers for word in words(said)} <= known


def test_clips_are_described_as_moving_the_way_they_were_asked_to(answers):
    moving = [(asked, said) for asked, said in zip(ASKED, answers, strict=True) if asked.media == "video"]
    right = [facts(said) >= facts(asked.prompt) for asked, said in moving]
    assert sum(right) / len(right) >= SAID["kept"]["least"]


def test_enhanced_prompts_keep_the_users_words_and_are_much_longer(enhanced):
    for asked, made in zip(ASKED, enhanced, strict=False):
        assert made.status == "done"
        assert set(content_words(asked.prompt, RULES.guard)) <= set(words(made.text))
        assert len(made.text.split()) >= 2 * len(asked.prompt.split())


def test_a_seed_means_one_answer_and_another_seed_another(engine, answers):
    assert answer(engine, ASKED[0]) == answers[0]
    others = {engine.enhance(ASKED[0].prompt, ASKED[0].media, seed, Watch()).text for seed in range(5)}
    assert len(others) > 1


@pytest.mark.parametrize(
    ("prompt", "said", "kept"),
    [
        ("a red circle", "A red circle. The circle has crisp edges.", True),
        ("a red circle", "A circle. The circle has crisp edges.", False),
        ("a red circle", "A red circle. The square has crisp edges.", False),
        ("a red circle", "A red circle on a blue background.", False),
        ("a cross rising", "A cross rising. The cross keeps moving up.", True),
        ("a cross rising", "A cross rising. The cross keeps moving down.", False),
        ("two crosses", "Two crosses. The crosses have clean edges.", True),
    ],
)
def test_facts_are_kept_or_lost(prompt, said, kept):
    assert keeps_facts(prompt, said) is kept
