"""Time saved at the price of other pixels: see `workers.job.Turbo`. For clips, whose steps are long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from workers.engines.wan.denoise import Velocity
    from workers.job import Turbo

Asked = tuple["Tensor", int]
"""What a pass of the transformer is asked: the time, and the identity of the text that it reads."""


class Criterion(Protocol):
    """Decides for one job when the blocks' work is taken from before. `head` blocks are computed all the same, and
    make `first` of `hidden`; `step` is called before each step. Where it is not `alike`, all blocks are computed."""

    head: int

    def step(self) -> None: ...
    def alike(self, text: int, hidden: Tensor, first: Tensor, time: Tensor) -> bool: ...


def partly(guided: Velocity, alone: Velocity, turbo: Turbo, steps: int) -> Velocity:
    """Guided in some of a job's steps, in the others by the prompt alone."""
    taken = count()

    def velocity(latents: Tensor, time: Tensor) -> Tensor:
        return (guided if turbo.guides(next(taken), steps) else alone)(latents, time)

    return velocity


@contextmanager
def reusing(transformer: Any, criterion: Criterion, velocity: Velocity) -> Iterator[Velocity]:
    """For one job: the velocity whose steps take the blocks' work from before where the criterion allows it."""

    def stepping(latents: Tensor, time: Tensor) -> Tensor:
        criterion.step()
        return velocity(latents, time)

    with standing_in(transformer, Shortcut(transformer.blocks, criterion).forward):
        yield stepping


@contextmanager
def standing_in(transformer: Any, forward: Callable[..., Tensor]) -> Iterator[None]:
    """`forward` in the place of all blocks. It takes what is asked, and then what a block takes."""
    import torch

    blocks, shell, asked = transformer.blocks, torch.nn.Module(), list[Asked]()

    def listen(_: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
        asked[:] = [(inputs[1], id(inputs[2]))]

    shell.blocks, shell.forward = blocks, lambda *inputs: forward(asked[0], *inputs)
    listening = transformer.register_forward_pre_hook(listen)
    transformer.blocks = torch.nn.ModuleList([shell])
    try:
        yield
    finally:
        transformer.blocks = blocks
        listening.remove()


class Shortcut:
    """All blocks in the place of one. What it keeps is a tensor of the hidden state's size for each text."""

    def __init__(self, blocks: Any, criterion: Criterion) -> None:
        self._criterion, blocks = criterion, list(blocks)
        self._head, self._others = blocks[: criterion.head], blocks[criterion.head :]
        self._kept: dict[int, Tensor] = {}

    def forward(self, asked: Asked, hidden: Tensor, words: Tensor, time: Tensor, rotary: Any) -> Tensor:
        text, first = asked[1], through(self._head, hidden, words, time, rotary)
        alike = self._criterion.alike(text, hidden, first, time)
        if alike and text in self._kept:
            return first + self._kept[text]
        last = through(self._others, first, words, time, rotary)
        self._kept[text] = last - first
        return last


def through(blocks: Any, hidden: Tensor, *more: Any) -> Tensor:
    for block in blocks:
        hidden = block(hidden, *more)
    return hidden
