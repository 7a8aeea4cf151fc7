"""Gate G3: who looks, at what, and that nothing passes where nobody could look. Scores are what a test says."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tests.guarding import ADULT, audited, guarded
from tests.workbench import Bench, payload
from workers.claim import Claim
from workers.errors import EngineBroken, Unrecorded
from workers.job import Job, Output
from workers.loras import LoraFile
from workers.payload import parse
from workers.safety.block import Blocked
from workers.safety.output import sampled
from workers.safety.registry import Entry
from workers.safety.scorers import fingerprint
from workers.watch import Watch

USER, JOB = "11111111-2222-4333-8444-555555555555", "22222222-2222-4333-8444-555555555555"


def picture(seed: int = 1, frames: int = 1) -> np.ndarray:
    """Soft blotches, the same for a seed; every frame of a clip another."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (frames, 8, 8, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((1, 12, 12, 1), dtype=np.uint8))


def output(seed: int = 1, frames: int = 1) -> Output:
    return Output(index=0, seed=seed, frames=picture(seed, frames))


def rule_of(screen, rating: str, made: Output | None = None) -> str | None:
    try:
        screen.look(made or output(), rating)
    except Blocked as blocked:
        return blocked.rule if blocked.code == "policy" else blocked.code
    return None


@pytest.mark.parametrize(
    ("rating", "explicit", "age", "rule"),
    [
        ("sfw", 0.1, None, None),
        ("sfw", 0.59, 40.0, None),
        ("sfw", 0.6, 40.0, "explicit_sfw"),
        ("sfw", 0.99, None, "explicit_sfw"),
        ("adult", 0.99, 40.0, None),
        ("adult", 0.99, 25.0, None),
        ("adult", 0.99, 24.9, "minor_adult"),
        ("adult", 0.0, 12.0, "minor_adult"),
        ("adult", 0.0, None, "minor_adult"),
    ],
)
def test_the_rating_decides_what_may_be_seen(tmp_path, rating, explicit, age, rule):
    assert rule_of(guarded(tmp_path, explicit=explicit, age=age).inspection.screen, rating) == rule


def failing(_frame):
    raise RuntimeError("out of memory")


@pytest.mark.parametrize("answer", [failing, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("rating", "broken"), [("sfw", "explicit"), ("adult", "explicit"), ("adult", "age")])
def test_a_scorer_that_fails_lets_nothing_pass_and_the_worker_makes_nothing_more(tmp_path, rating, broken, answer):
    guards = guarded(tmp_path, **({"explicit": 0.0, "age": 40.0} | {broken: answer}))
    guards.gate.check()
    assert rule_of(guards.inspection.screen, rating) == "scorer_failed"
    with pytest.raises(EngineBroken) as ended:
        guards.gate.check()
    assert ended.value.exit_code == 73


def test_of_a_clip_the_first_the_last_and_every_eighth_frame_are_looked_at():
    assert sampled(81) == [0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80]
    assert sampled(1) == [0]
    assert sampled(5) == [0, 4]
    assert sampled(17) == [0, 8, 16]


@pytest.mark.parametrize("place", [0, 8, 16, 20])
def test_one_frame_is_enough_to_block_a_clip(tmp_path, place):
    clip = output(frames=21)
    clip.frames[place] = 255
    screen = guarded(tmp_path, explicit=lambda frame: float(frame.min() == 255)).inspection.screen
    assert rule_of(screen, "sfw", clip) == "explicit_sfw"


def test_the_youngest_of_a_clip_counts(tmp_path):
    clip = output(frames=17)
    clip.frames[8] = 255
    screen = guarded(tmp_path, age=lambda frame: 15.0 if frame.min() == 255 else 50.0).inspection.screen
    assert rule_of(screen, "adult", clip) == "minor_adult"


def test_what_was_taken_down_does_not_come_out_again_in_any_rating(tmp_path):
    guards = guarded(tmp_path, age=40.0, policy=ADULT)
    screen, registry = guards.inspection.screen, guards.inspection.registry
    assert rule_of(screen, "sfw") is None
    registry.block(JOB, [fingerprint(picture()[0])], 0.0)
    assert {rule_of(screen, rating) for rating in ("sfw", "adult")} == {"blocked_copy"}
    assert rule_of(screen, "sfw", output(seed=2)) is None


def test_a_block_is_written_down_with_rule_and_scores_but_nothing_of_the_picture(tmp_path):
    inspection = guarded(tmp_path, explicit=0.9).inspection
    with pytest.raises(Blocked):
        inspection.look(MadeJob(), output())
    (line,) = audited(tmp_path, "blocked")
    assert (line["job"], line["gate"], line["rule"]) == (JOB, "G3", "explicit_sfw")
    assert line["scores"] == {"explicitness": 0.9}
    assert line["seeds"] == [7]
    assert USER not in str(line)


@dataclass
class MadeJob:
    job_id: str = JOB
    user_id: str = USER
    metadata: dict = field(default_factory=lambda: {"rating": "sfw", "seeds": [7], "prompt": "a red bicycle"})


def test_a_block_is_decided_once_it_can_be_written_down_and_nothing_passes_before(tmp_path):
    guards = guarded(tmp_path, explicit=0.9)
    (tmp_path / "audit").rename(tmp_path / "elsewhere")
    (tmp_path / "audit").touch()
    with pytest.raises(Unrecorded):
        guards.inspection.look(MadeJob(), output())
    assert guards.gate.problem() == "the audit cannot be written: File exists"
    (tmp_path / "audit").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "audit")
    assert guards.gate.problem() is None
    with pytest.raises(Blocked):
        guards.inspection.look(MadeJob(), output())
    assert [line["event"] for line in audited(tmp_path)] == ["resumed", "blocked"]


def test_any_number_of_threads_may_look(tmp_path):
    screen = guarded(tmp_path, age=40.0).inspection.screen
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(screen.look(output(), "adult"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(seen) == 8


RATINGS = [
    ("sfw", "sfw", None, "sfw"),
    ("sfw", "sfw", "adult", "sfw"),
    ("sfw", "adult", None, "sfw"),
    ("adult", "sfw", None, "sfw"),
    ("adult", "sfw", "adult", "adult"),
    ("adult", "adult", None, "adult"),
    ("adult", "adult", "sfw", "sfw"),
]


@pytest.mark.parametrize(("ceiling", "default", "wish", "rating"), RATINGS)
def test_a_jobs_rating_is_the_lower_of_the_ceiling_and_its_wish(tmp_path, ceiling, default, wish, rating):
    gate = guarded(tmp_path, age=40.0, policy=type(ADULT)(ceiling, default)).gate
    assert gate.admit(Job(JOB, "image_fast", USER, "a red bicycle", rating=wish)) == rating


def test_without_an_age_scorer_adult_jobs_are_refused_and_the_worker_goes_on(tmp_path):
    gate = guarded(tmp_path, policy=ADULT).gate
    with pytest.raises(Blocked, match="Adult content is not available") as refused:
        gate.admit(Job(JOB, "image_fast", USER, "a red bicycle", rating="adult"))
    assert refused.value.code == "policy"
    gate.check()
    assert gate.admit(Job(JOB, "image_fast", USER, "a red bicycle")) == "sfw"


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "compel_weights", "character"])
@pytest.mark.parametrize("tier", ["artistic", "explicit", "unrestricted"])
def test_no_tier_switches_a_gate_off_and_every_field_is_read(tmp_path, field, tier):
    texts = {"prompt": "a red bicycle"} | {field: "a naked child"}
    with pytest.raises(Blocked):
        guarded(tmp_path).gate.admit(Job(JOB, "image_fast", USER, **texts, tier=tier, raw_prompt=True))
    (line,) = audited(tmp_path, "blocked")
    assert (line["gate"], line["rule"]) == ("G1", "minor_sexual")
    assert "naked" not in str(line)


def test_what_is_shown_beside_the_prompt_is_read_too(tmp_path):
    with pytest.raises(Blocked):
        guarded(tmp_path).gate.admit(Job(JOB, "image_fast", USER, "a child"), ["a trigger word: naked"])


def test_a_registry_knows_what_was_made_and_finds_its_copies(tmp_path):
    registry = guarded(tmp_path).inspection.registry
    prints = (fingerprint(picture(1)[0]), None, fingerprint(picture(2)[0]))
    registry.add([Entry(JOB, 0, "a" * 64, "nym", "image_fast", 1.0, USER, prints)])
    assert registry.find("a" * 64).owner == USER
    assert registry.find("b" * 64) is None
    near = fingerprint(np.clip(picture(2)[0].astype(int) + 9, 0, 255).astype(np.uint8))
    assert [(copy.job, copy.position) for copy in registry.near([near], 8)] == [(JOB, 0)]
    assert registry.near([fingerprint(picture(3)[0])], 8) == []


def test_the_trigger_words_of_loras_are_read_with_the_prompt(tmp_path):
    at = Bench(tmp_path).start()
    at.finish()
    film = LoraFile("film.safetensors", "0" * 64, "wan", triggers=("nsfw",))
    maker = replace(at.maker, loras={"film": film})
    body = payload(prompt="a minor chord", metadata={"loras": [{"name": "film"}]})
    job = parse(body)
    with pytest.raises(Blocked):
        maker.make(Claim("a" * 32, body, 1, 0, 1), job, maker.preset(job), Watch())
    assert not at.engine.made
    maker.tidy()
    assert at.engine.forgot
