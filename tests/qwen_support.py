"""A small enhancer for tests, written once per session and loaded as production loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workers.engines.qwen.decode import Answer
from workers.engines.qwen.engine import QwenEnhancer
from workers.engines.qwen.snapshot import Variant, find_snapshot
from workers.prompting.rules import load_rules
from workers.watch import Watch

RULES = load_rules().enhance
SHORT = RULES.model_copy(update={"max_new_tokens": 64})
VARIANTS: tuple[Variant, ...] = ("base", "instruct")
BICYCLE = "a red bicycle"


def written(factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache with both variants."""
    from workers.tiny import qwen

    hf_home = factory.mktemp("huggingface")
    qwen.write(hf_home)
    return hf_home


def enhancer(volume: Path, variant: Variant = "instruct", **values: Any) -> QwenEnhancer:
    values = {"rules": SHORT, **values}
    made = QwenEnhancer(find_snapshot(volume, variant), device="cpu", variant=variant, **values)
    made.load(Watch())
    return made


def raw_answer(model: QwenEnhancer, seed: int) -> Answer:
    """What the model says before the guard reads it."""
    return model._answer(model._question(BICYCLE, "image", seed), Watch())
