"""The life of a job with references in the worker's loop: fetched before the card is taken, tried again, given up."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from tests.support import wait_until
from tests.workbench import USER, payload
from workers.errors import Rejected, Unreachable
from workers.job import Picture
from workers.testing.fakes import FakeEngine

PICTURE = Picture((2, 1), bytes(6), sha256="ab" * 32)
PLACE = f"{USER}/picture.png"


class Shelf:
    """In place of storage: fails so often, then brings in a picture for each role."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.asked: list[str] = []

    def collect(self, wanted, user_id, clip):
        self.asked.append(user_id)
        if len(self.asked) <= self.failures:
            raise Unreachable("storage answered 503")
        return {reference.role: PICTURE for reference in wanted}


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr("workers.endings.RETRY_DELAYS", (0.05, 0.05, 0.05))


def test_a_picture_is_fetched_for_its_user_and_handed_to_the_engine(bench):
    at = bench(kind="sdxl", references=Shelf())
    at.push(payload("sdxl_image_fast", config={"image": PLACE, "denoise_strength": 0.2, "num_images": 1}))
    (outcome,) = at.ends()
    (made,) = at.engine.made
    assert (made.guide.use, made.guide.change) == ("start", 0.2)
    assert made.guide.pictures == {"reference_image_url": PICTURE}
    assert at.references.asked == [USER]
    assert outcome.metadata["reference_sha256"] == {"reference_image_url": "ab" * 32}
    assert outcome.metadata["timings"]["fetch"] >= 0
    assert PLACE not in str(outcome)


def test_a_job_without_references_fetches_nothing_and_says_nothing_of_them(bench):
    at = bench(references=Shelf())
    at.push(payload())
    (outcome,) = at.ends()
    assert not at.references.asked
    assert not {"pipeline", "reference_sha256", "exact_copy_mode"} & outcome.metadata.keys()


def test_a_storage_that_fails_for_a_while_costs_the_job_nothing(bench, quick):
    at = bench(references=Shelf(failures=2))
    at.push(payload(config={"image": PLACE}))
    (outcome,) = at.ends()
    assert outcome.status == "completed"
    assert outcome.metadata["attempt"] == 3


def test_a_storage_that_goes_on_failing_ends_the_job_with_a_sentence_and_without_a_picture(bench, quick):
    at = bench(references=Shelf(failures=9))
    at.push(payload(config={"image": PLACE}))
    (outcome,) = at.ends()
    assert (outcome.status, outcome.error_message[:44]) == ("failed", "The reference image could not be fetched, al")
    assert not at.engine.made
    assert len(at.references.asked) == 3


def test_the_card_is_not_held_while_a_picture_is_fetched(bench, monkeypatch):
    held: list[str] = []
    shelf = Shelf()
    at = bench(references=shelf)
    turn = at.worker._at.turn
    monkeypatch.setattr(
        type(turn), "held", lambda self, watch: held.append(f"after {len(shelf.asked)}") or nullcontext()
    )
    at.push(payload(config={"image": PLACE}))
    at.ends()
    assert held[-1] == "after 1"


@pytest.mark.parametrize(
    ("job_type", "config", "sentence"),
    [
        ("video_fast", {"first_frame": PLACE}, "first or last frame are not available"),
        ("video_fast", {"image": PLACE}, "from a reference image are not available"),
    ],
)
def test_what_the_volume_has_no_model_for_is_refused_and_never_made_without_it(bench, job_type, config, sentence):
    engine = FakeEngine(steps=1)
    engine.uses = frozenset(("start",))
    at = bench(engine=engine, references=Shelf())
    at.push(payload(job_type, config=config))
    (outcome,) = at.ends()
    assert (outcome.status, sentence in outcome.error_message) == ("failed", True)
    assert not engine.made


def test_a_copy_is_made_of_the_users_words_alone(bench):
    at = bench(references=Shelf())
    at.push(payload("image7b_fast_enhanced", config={"image": PLACE, "exact_copy_mode": True}))
    (outcome,) = at.ends()
    (made,) = at.engine.made
    assert (made.prompt, made.guidance) == ("a red bicycle", 1.0)
    assert outcome.metadata["enhancement"] == "off"


def test_a_picture_that_the_gate_refuses_is_never_shown_to_the_engine(bench, monkeypatch):
    def refuse(*_):
        raise Rejected("Not this picture.", code="policy")

    at = bench(references=Shelf())
    monkeypatch.setattr(type(at.maker.gate), "admit_references", refuse)
    at.push(payload(config={"image": PLACE}))
    (outcome,) = at.ends()
    wait_until(lambda: not at.leases.tokens)
    assert (outcome.error_type, outcome.error_message) == ("policy", "Not this picture.")
    assert not at.engine.made
