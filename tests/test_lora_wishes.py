"""What a job may ask of the deployment's LoRAs, and what is said where it asks for something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_prompt import FITTED, SDXL, SHIPPED, job, tokens

from workers.errors import Misconfigured, Rejected
from workers.job import Lora, SamplingParams
from workers.loras import LoraFile, triggers
from workers.prompting.prompt import compose
from workers.resolve import resolve
from workers.settings import CONFIG_DIR
from workers.tables import load_models
from workers.volume import find_models, lost_loras

HASH = "0" * 64
OFFERED = {
    "film": LoraFile("loras/film.safetensors", HASH, "sdxl", max_strength=1.2, triggers=("filmgrain", "kodachrome")),
    "ink": LoraFile("loras/ink.safetensors", HASH, "sdxl"),
    "wave": LoraFile("loras/wave.safetensors", HASH, "wan"),
}


def resolved(loras: Any) -> SamplingParams:
    return resolve(job(metadata={"loras": loras}), SDXL, 1.0, OFFERED)


def test_a_lora_is_wanted_by_name_and_strength() -> None:
    params = resolved([{"name": "film", "strength": 0.7}, {"name": "ink"}])
    assert params.loras == (Lora("film", 0.7), Lora("ink", 1.0))
    assert params.adjusted == {}


def test_without_a_wish_there_is_none() -> None:
    assert resolve(job(), SDXL, 1.0, OFFERED).loras == ()
    assert resolved([]).loras == ()


@pytest.mark.parametrize(("wish", "used"), [(9, 1.2), (-1, 0.0), (1.3, 1.2)])
def test_a_strength_out_of_bounds_is_moved_and_reported(wish: float, used: float) -> None:
    params = resolved([{"name": "film", "strength": wish}])
    assert params.loras == (Lora("film", used),)
    assert params.adjusted == {"lora film": [wish, used]}


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ([{"name": "sepia"}], "There is no LoRA of this name."),
        ([{"name": "../film"}], "There is no LoRA of this name."),
        ([{"name": ["film"]}], "There is no LoRA of this name."),
        ([{"strength": 1}], "There is no LoRA of this name."),
        ([{"name": "wave"}], "This LoRA is for another model."),
        ([{"name": "film", "strength": "much"}], "The strength of a LoRA must be a number."),
        ([{"name": "film", "strength": True}], "The strength of a LoRA must be a number."),
        ([{"name": "film"}, {"name": "film"}], "A LoRA is named twice."),
        ([{"name": "film"}] * 4, "At most 3 LoRAs can be combined."),
        ("film", "The LoRAs must be a list of names and strengths."),
        (["film"], "The LoRAs must be a list of names and strengths."),
        ({"name": "film"}, "The LoRAs must be a list of names and strengths."),
    ],
)
def test_what_is_not_offered_is_refused_with_a_sentence(wish: Any, sentence: str) -> None:
    with pytest.raises(Rejected) as caught:
        resolved(wish)
    assert (caught.value.sentence, caught.value.field) == (sentence, "loras")


def test_the_words_a_lora_is_called_by_come_before_all_style_and_find_room() -> None:
    called = triggers((Lora("film", 0.5), Lora("ink", 1.0)), OFFERED)
    composed = compose(job(), SDXL, SHIPPED, rating="sfw", triggers=called)
    assert composed.prompt.startswith("a red bicycle, filmgrain, kodachrome, score_9")
    crowded = compose(job("bicycle " * 90), SDXL, FITTED, rating="sfw", count=tokens, triggers=called)
    assert crowded.added[:2] == ("filmgrain", "kodachrome")


def test_a_word_that_the_user_wrote_is_not_added_again_and_a_raw_prompt_gets_none() -> None:
    called = triggers((Lora("film", 0.5),), OFFERED)
    assert "filmgrain" not in compose(job("filmgrain bicycle"), SDXL, SHIPPED, rating="sfw", triggers=called).added
    raw = compose(job(raw_prompt=True), SDXL, SHIPPED, rating="sfw", triggers=called)
    assert raw.prompt == "a red bicycle"


def test_a_lora_of_no_strength_is_called_by_nothing() -> None:
    assert triggers((Lora("film", 0.0),), OFFERED) == ()


def models(tmp_path: Path, table: str) -> Path:
    path = tmp_path / "models.toml"
    path.write_text((CONFIG_DIR / "models.toml").read_text(encoding="utf-8") + table, encoding="utf-8")
    return path


def test_the_list_of_loras_is_a_table_in_the_file_of_models(tmp_path: Path) -> None:
    table = f'\n[loras.film]\nfile = "loras/film.safetensors"\nsha256 = "{HASH}"\nbase = "sdxl"\ntriggers = ["grain"]\n'
    assert load_models(models(tmp_path, table)).loras == {
        "film": LoraFile("loras/film.safetensors", HASH, "sdxl", triggers=("grain",))
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('file = "film.ckpt"', "safetensors"),
        ('file = "/film.safetensors"', "below MODEL_ROOT"),
        ('file = "../film.safetensors"', "below MODEL_ROOT"),
        ('sha256 = "abc"', "SHA-256"),
        ("max_strength = 0", "max_strength"),
        ("max_strength = 50", "max_strength"),
        ('trigger = "grain"', "trigger"),
    ],
)
def test_what_is_wrong_in_the_list_is_said_before_anything_starts(tmp_path: Path, line: str, said: str) -> None:
    values = {"file": 'file = "film.safetensors"', "sha256": f'sha256 = "{HASH}"', "base": 'base = "sdxl"'}
    values[line.partition(" ")[0]] = line
    with pytest.raises(Misconfigured, match=said):
        load_models(models(tmp_path, "\n[loras.film]\n" + "\n".join(values.values()) + "\n"))


def test_a_lora_on_the_volume_is_looked_at_and_one_that_is_not_there_stops_nobody(tmp_path: Path) -> None:
    offered = {"film": LoraFile("film.safetensors", HASH, "sdxl"), "ink": LoraFile("ink.safetensors", HASH, "sdxl")}
    (tmp_path / "film.safetensors").write_bytes(b"half of a file")
    files = load_models().model_copy(update={"loras": offered})
    found = {model.name: model for model in find_models(tmp_path, tmp_path, files)}
    assert "is not a whole safetensors file" in found["lora film"].problems[0]
    assert "lora ink" not in found
    assert lost_loras(tmp_path, files) == ["ink"]
