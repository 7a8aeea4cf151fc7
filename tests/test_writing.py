"""Jobs whose only output is a text: claimed and reported like any other, with nothing drawn or stored."""

from __future__ import annotations

import json
import uuid

import httpx
import pytest
from double import USER

from tests.workbench import payload
from workers.errors import Rejected
from workers.job import WRITTEN, Outcome
from workers.kinds import KINDS
from workers.supabase.callback import build
from workers.tables import load_presets, ranks_of


def asking(**values: object) -> str:
    return payload("enhance_prompt", **{"prompt": "a lighthouse at dusk", **values})


def test_a_prompt_comes_back_in_better_words(bench):
    at = bench()
    (job_id,) = at.push(asking())
    (outcome,) = at.ends()
    assert (outcome.job_id, outcome.status) == (job_id, "completed")
    assert outcome.enhanced_prompt == "a lighthouse at dusk, beautifully lit"
    assert outcome.metadata["original_prompt"] == "a lighthouse at dusk"
    assert outcome.metadata["enhancement"] == "done"


def test_nothing_is_drawn_or_stored_for_a_text(bench):
    at = bench()
    at.push(asking())
    at.ends()
    assert not at.storage.objects
    assert not at.engine.made
    at.finish()  # while it runs it tries now and then whether it could write
    assert not list(at.outbox.root.iterdir())


def test_a_text_is_not_written_without_a_prompt(bench):
    at = bench()
    at.push(asking(prompt=" "))
    (outcome,) = at.ends()
    assert (outcome.status, outcome.error_message) == ("failed", "There is no prompt to be put into better words.")


def test_a_worker_without_a_writer_refuses_texts(bench):
    at = bench(kind="sdxl")
    at.push(asking())
    (outcome,) = at.ends()
    assert outcome.status == "failed"
    assert "not made by this queue" in outcome.error_message


def test_what_was_written_passes_the_gate_again(bench, monkeypatch):
    at = bench()

    def admit(job):
        if "beautifully" in job.prompt:
            raise Rejected("This request is not allowed.", code="policy")
        return "sfw"

    monkeypatch.setattr(type(at.maker.gate), "admit", lambda self, job: admit(job))
    at.push(asking())
    (outcome,) = at.ends()
    assert (outcome.status, outcome.error_type) == ("failed", "policy")
    assert outcome.enhanced_prompt is None


@pytest.mark.parametrize("dialect", ["paths", "objects"])
def test_a_text_is_reported_without_assets_in_either_dialect(dialect):
    outcome = Outcome(str(uuid.uuid4()), "enhance_prompt", "completed", enhanced_prompt="a tall lighthouse at dusk")
    body = build(outcome, dialect, USER)
    assert body["assets"] == []
    assert "a tall lighthouse at dusk" in (body.get("enhancedPrompt"), body["metadata"].get("enhanced_prompt"))
    assert json.loads(httpx.Request("POST", "http://receiver", json=body).content) == body


def test_pictures_are_never_reported_without_assets():
    with pytest.raises(ValueError, match="all its assets"):
        build(Outcome(str(uuid.uuid4()), "image_fast", "completed"), "paths", USER)


def test_types_of_texts_are_no_presets_and_are_served_with_the_fast_ones():
    assert not WRITTEN.keys() & load_presets().keys()
    assert set(WRITTEN.values()) <= KINDS.keys()
    assert ranks_of("wan")["enhance_prompt"] == ranks_of("wan")["image_fast"] == 0
