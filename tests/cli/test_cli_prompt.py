"""`prompt` shows what a model would be sent, and needs nothing but tokenizers for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from terminal import call, call_json

from workers.tiny.wan import FOLDER, write_tokenizer

pytestmark = pytest.mark.usefixtures("no_settings")


def shown(*arguments: str) -> dict[str, Any]:
    facts: dict[str, Any] = call_json("prompt", *arguments)
    return facts


def fates(facts: dict[str, Any], fate: str) -> set[str]:
    return {term["text"] for term in facts["terms"] if term["fate"] == fate}


def test_every_token_is_shown_with_its_weight_in_its_chunk() -> None:
    said = call("prompt", "sdxl_image_fast", "a (red:1.3) bicycle", "--raw")
    assert said.exit_code == 0
    assert "chunk 1, 3 tokens: a | red*1.30 | bicycle" in said.stdout


def test_letters_of_every_script_are_shown_as_they_were_written() -> None:
    said = call("prompt", "sdxl_image_fast", "ein Fahrrad (grün:1.2), دراج", "--raw")
    assert "gr*1.20 | ü*1.20 | n*1.20 | , | د | ر" in said.stdout


def test_what_is_added_left_out_and_why_is_shown() -> None:
    said = call("prompt", "sdxl_image_fast", "a red bicycle, bokeh", "--negative", "rain, rain").stdout
    assert "repeated (negative_prompt, user): rain" in said
    assert "added (prompt, tier unrestricted): score_9, score_8_up" in said
    assert "said already (prompt, tier unrestricted): shallow depth of field" in said
    assert "added (negative_prompt, critical): bad anatomy, extra limbs, deformed, missing limbs" in said


def test_a_budget_to_fit_into_says_what_found_no_room() -> None:
    facts = shown("sdxl_image_fast", "a red bicycle", "--budget", "fit")
    assert "distortion" in fates(facts, "no room")
    assert facts["negative_prompt"]["tokens"] <= 75
    assert [len(chunk) for chunk in facts["negative_prompt"]["chunks"]] == [facts["negative_prompt"]["tokens"]]


def test_long_prompts_come_in_chunks_and_lose_nothing() -> None:
    prompt = ", ".join(["a lighthouse at dusk with red bicycles"] * 20)
    facts = shown("sdxl_image_fast", prompt, "--raw")["prompt"]
    pieces = [piece["text"] for chunk in facts["chunks"] for piece in chunk]
    assert " ".join(pieces).replace(" ,", ",") == prompt
    assert all(len(chunk) <= 75 for chunk in facts["chunks"])


def test_tier_rating_and_weights_are_heeded() -> None:
    facts = shown("sdxl_image_fast", "a red bicycle", "--tier", "artistic", "--weights", "(rust:1.2)")
    assert facts["tier"] == "artistic"
    assert facts["prompt"]["text"].startswith("a red bicycle, (rust:1.2), masterpiece")
    assert "merged bodies" in fates(shown("sdxl_image_fast", "a red bicycle", "--rating", "adult"), "added")


def test_the_video_models_tokenizer_is_asked_for_by_its_place(tmp_path: Path) -> None:
    said = call("prompt", "video_fast", "a red bicycle")
    assert said.exit_code == 0
    assert f"{tmp_path / 'models' / FOLDER / 'google' / 'umt5-xxl'} has no tokenizer" in said.stderr
    assert "smooth motion" in said.stdout


def test_the_video_models_tokens_are_counted_where_its_tokenizer_lies(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "models" / FOLDER / "google" / "umt5-xxl")
    facts = shown("video_fast", "a red bicycle")
    assert facts["notes"] == []
    assert facts["prompt"]["tokens"] == sum(map(len, facts["prompt"]["chunks"])) > 3


def test_enhanced_types_say_that_somebody_else_writes() -> None:
    assert "The enhancer writes this prompt" in call("prompt", "video7b_fast_enhanced", "dusk").stderr
    facts = shown("video7b_fast_enhanced", "dusk", "--enhanced", "The sea at dusk with smooth motion.")
    assert facts["prompt"]["text"].startswith("The sea at dusk with smooth motion. fluid movement")
    assert not any("enhancer" in note for note in facts["notes"])


@pytest.mark.parametrize(
    "arguments", [("film", "dusk"), ("sdxl_image_fast", "dusk", "--tier", "bold"), ("sdxl_image_fast", "d" * 5000)]
)
def test_wrong_usage_is_answered_with_a_sentence(arguments: tuple[str, ...]) -> None:
    said = call("prompt", *arguments)
    assert said.exit_code == 2
    assert "Error" in said.stderr
