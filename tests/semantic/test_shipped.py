"""What is shipped is what was measured: whole, small, and in the formats of the real models."""

from __future__ import annotations

import hashlib

from safetensors.torch import load_file

from toys.__main__ import SUMS, WEIGHTS, shipped
from workers.tables import load_models, size_scale

LIMIT = 25_000_000
FILES = shipped(WEIGHTS)


def test_every_file_has_the_hash_that_is_written_down():
    lines = [line.split("  ") for line in (WEIGHTS / SUMS).read_text().splitlines()]
    assert {name: digest for digest, name in lines} == {
        str(path.relative_to(WEIGHTS)): hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES
    }


def test_all_together_are_small():
    assert sum(path.stat().st_size for path in FILES) < LIMIT


def test_words_outside_the_world_share_one_vector():
    tensors = load_file(WEIGHTS / load_models().sdxl.checkpoint)
    table = tensors["conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight"]
    assert len(table) == 49_408
    assert len(table.unique(dim=0)) < 400


def test_the_manifest_says_how_small_the_models_are():
    assert size_scale(WEIGHTS, "sdxl") == 0.0625
    assert size_scale(WEIGHTS, "wan") == 0.1
