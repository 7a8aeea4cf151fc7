"""What a card learns from: drawn and worded once, by all cores, and kept on the card. A step picks from it there:
nothing is drawn, worded or moved while the card could compute."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from toys.loop import Chance
from toys.raster import paint

if TYPE_CHECKING:
    from torch import Tensor

PART = 2048
"""Scenes that one process makes up and words at a time."""
AT_ONCE = 512
"""Pictures or prompts that are encoded at a time."""
Parts = Sequence["Tensor"]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Scenes as `raster.table` has them, and the size they are painted in."""

    rows: Tensor
    size: tuple[int, int]

    def painted(self, index: Tensor | slice, times: Tensor) -> Tensor:
        """(index, 3, times, height, width) from -1 to 1."""
        return paint(self.rows[index], self.size, times)

    def still(self, index: Tensor | slice) -> Tensor:
        """(index, 3, height, width)"""
        return self.painted(index, self.rows.new_zeros(1))[:, :, 0]

    def some(self, number: int, chance: Chance) -> Tensor:
        return picked(len(self.rows), number, chance)


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts as a network reads them, a tensor for each part of that, and the number of the scene of each."""

    scenes: Tensor
    fed: Parts

    def some(self, number: int, chance: Chance) -> tuple[Tensor, list[Tensor]]:
        """The scenes of some of them, and what is fed."""
        index = picked(len(self.scenes), number, chance)
        return self.scenes[index], [part[index] for part in self.fed]


def picked(among: int, number: int, chance: Chance) -> Tensor:
    import torch

    return torch.randint(among, (number,), generator=chance.noise, device=chance.noise.device)


def made(make: Callable[[int], Sequence[Parts]], parts: int, device: str) -> list[list[Tensor]]:
    """What `make` makes of the number of each part, put together along the first axis: the same however many cores
    share the work."""
    import numpy as np
    import torch

    if parts == 1:
        found = [_arrays(make, 0)]
    else:
        with ProcessPoolExecutor(_processes(parts), get_context("spawn")) as pool:
            found = list(pool.map(partial(_arrays, make), range(parts)))
    groups = zip(*found, strict=True)
    return [
        [torch.from_numpy(np.concatenate(some)).to(device) for some in zip(*group, strict=True)] for group in groups
    ]


def _arrays(make: Callable[[int], Sequence[Parts]], part: int) -> list[list[Any]]:
    """As arrays, which travel between processes by value."""
    return [[tensor.numpy() for tensor in group] for group in make(part)]


def all_through(network: Callable[..., Any], *inputs: Any, at_once: int = AT_ONCE) -> list[Tensor]:
    """What a network makes of many inputs, without learning; in half precision, to be kept."""
    import torch

    with torch.no_grad():
        chunks = [network(*some) for some in zip(*(part.split(at_once) for part in inputs), strict=True)]
    return [torch.cat(part).half() for part in zip(*chunks, strict=True)]


def _processes(parts: int) -> int:
    """Half of the cores: another model may be learning beside this one."""
    return max(1, min(parts, (os.cpu_count() or 1) // 2))
