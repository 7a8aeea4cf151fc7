"""Time saved at the price of other pixels: see `workers.job.Turbo`. For clips, whose steps are long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from workers.engines.wan.denoise import Velocity
    from workers.job import Turbo


def partly(guided: Velocity, alone: Velocity, turbo: Turbo, steps: int) -> Velocity:
    """Guided in some of a job's steps, in the others by the prompt alone."""
    taken = count()

    def velocity(latents: Tensor, time: Tensor) -> Tensor:
        return (guided if turbo.guides(next(taken), steps) else alone)(latents, time)

    return velocity


@contextmanager
def reusing(transformer: Any, least: float) -> Iterator[None]:
    """For one job: where the first block does nearly what it did when all were last computed, the others' work is
    taken from there. `least` is the mean change of what it adds, relative to what it added, that counts as one."""
    import torch

    blocks, shell = transformer.blocks, torch.nn.Module()
    shortcut = Shortcut(blocks, least)
    shell.blocks, shell.forward = blocks, shortcut.forward
    listening = transformer.register_forward_pre_hook(lambda _, inputs: shortcut.listen(inputs[2]))
    transformer.blocks = torch.nn.ModuleList([shell])
    try:
        yield
    finally:
        transformer.blocks = blocks
        listening.remove()


class Shortcut:
    """All blocks in the place of one. What it keeps are two tensors of the hidden state's size for each text."""

    def __init__(self, blocks: Any, least: float) -> None:
        self._blocks, self._least = blocks, least
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._text = 0
        self.taken = 0

    def listen(self, text: Tensor) -> None:
        """Each text of a job has a memory of its own."""
        self._text = id(text)

    def forward(self, hidden: Tensor, *more: Any) -> Tensor:
        first: Tensor = self._blocks[0](hidden, *more)
        added = first - hidden
        kept = self._kept.get(self._text)
        if kept is not None and _alike(added, kept[0], self._least):
            self.taken += 1
            return first + kept[1]
        last = first
        for block in self._blocks[1:]:
            last = block(last, *more)
        self._kept[self._text] = (added, last - first)
        return last


def _alike(added: Tensor, before: Tensor, least: float) -> bool:
    """The one answer of a step for which the host waits."""
    return bool((added - before).abs().mean() < least * before.abs().mean())
