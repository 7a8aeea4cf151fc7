"""A block of the video model hands what the next one is shown over to it, and to nobody else."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wan_support import loaded

from tests.test_wan_speed import close, drawn
from workers.engines.wan import fused
from workers.engines.wan.shared import halve
from workers.tiny import wan as tiny

pytestmark = pytest.mark.pipelines


@pytest.fixture
def halved(tmp_path: Path) -> list[Any]:
    """Blocks that hand over, the first of which has a hidden state to read."""
    tiny.write(tmp_path)
    transformer = loaded(tmp_path / tiny.FOLDER)._pipeline.transformer
    fused.fuse_transformer(transformer)
    halve(transformer.blocks)
    return list(transformer.blocks)


@pytest.fixture
def asked(halved: list[Any]) -> Callable[[int, Any], Any]:
    """What the block of this number makes of a hidden state."""
    import torch

    width = halved[0].norm1.normalized_shape[0]
    rotary = drawn(2, 1, 5, 1, width // halved[0].attn1.heads)
    text, time = drawn(1, 7, width, seed=4), drawn(1, 6, width, seed=5)

    @torch.no_grad()
    def ask(number: int, hidden: Any) -> Any:
        return halved[number](hidden, text, time, tuple(rotary))

    return ask


def test_the_next_block_is_shown_what_was_handed_over_with_this_very_hidden_state(
    halved: list[Any], asked: Callable[[int, Any], Any]
) -> None:
    hidden = asked(0, drawn(1, 5, halved[0].norm1.normalized_shape[0]))
    handed, seen = weakref.ref(vars(hidden)["shown"]), list[bool]()
    halved[1].attn1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] is handed()))
    expected = asked(1, hidden.clone())
    assert close(asked(1, hidden), expected)
    assert handed() is None
    assert close(asked(1, hidden), expected), "asked again, it makes its own"
    assert seen == [False, True, False]


def test_what_was_handed_over_goes_with_its_hidden_state(halved: list[Any], asked: Callable[[int, Any], Any]) -> None:
    hidden = asked(0, drawn(1, 5, halved[0].norm1.normalized_shape[0]))
    handed = weakref.ref(vars(hidden)["shown"])
    del hidden
    assert handed() is None
    assert not vars(asked(len(halved) - 1, drawn(1, 5, halved[0].norm1.normalized_shape[0])))
