"""When the work of a clip's blocks is taken from an earlier step: three answers to one question, for one job each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workers.engines.wan.shared import modulated

if TYPE_CHECKING:
    from torch import Tensor

BEGINNING = 0.2
"""The share of the steps, from the first, that magnitudes leave as they are: they say what a picture will show."""
IN_A_ROW = 3
"""Steps that magnitudes leave out one after the other, at most."""
STEEPNESS = 3
"""Content has this power of a frequency less power there; noise has the same everywhere."""
NOISIEST = 0.999


class ByFirstBlock:
    """Where the first block adds nearly what it added when all were last computed, by its mean change relative to what
    it added then. Each text has a memory of its own. Costs that block, and one answer for which the host waits."""

    head = 1

    def __init__(self, most: float) -> None:
        self._most = most
        self._before: dict[int, Tensor] = {}

    def step(self) -> None:
        pass

    def alike(self, text: int, hidden: Tensor, first: Tensor, time: Tensor) -> bool:
        added, before = first - hidden, self._before.get(text)
        if before is not None and bool((added - before).abs().mean() < self._most * before.abs().mean()):
            return True
        self._before[text] = added
        return False


class ByMagnitude:
    """Where what all blocks add is known to have hardly grown or shrunk: decided before the job, so at no cost."""

    head = 0

    def __init__(self, magnitudes: Sequence[float], most: float) -> None:
        self._kept = iter(unchanged(magnitudes, most))
        self._now = False

    def step(self) -> None:
        self._now = next(self._kept)

    def alike(self, text: int, hidden: Tensor, first: Tensor, time: Tensor) -> bool:
        return self._now


class BySpectrum:
    """Where the content of what the blocks are shown has hardly changed since all were last computed: the relative
    changes from step to step add up. Both texts are shown the same, so there is one answer for a step, for which the
    host waits. `grid` are the frames, rows and columns of tokens; `noise` is each step's share of noise."""

    head = 0

    def __init__(self, block: Any, grid: Sequence[int], noise: Sequence[float], most: float) -> None:
        self._block, self._grid, self._most = block, grid, most
        self._noise, self._left = iter(noise), len(noise)
        self._before: Tensor | None = None
        self._changed, self._share = 0.0, 1.0
        self._now: bool | None = None

    def step(self) -> None:
        self._share, self._now = next(self._noise), None
        self._left -= 1

    def alike(self, text: int, hidden: Tensor, first: Tensor, time: Tensor) -> bool:
        if self._now is None:
            self._now = self._unchanged(modulated(self._block, hidden, time).float())
        return self._now

    def _unchanged(self, shown: Tensor) -> bool:
        """Never in the first step and in the last."""
        seen, before = content(shown.view(*self._grid, -1), self._share), self._before
        self._before = seen
        if before is not None:
            self._changed += float((seen - before).abs().mean() / before.abs().mean())
        if before is not None and self._left and self._changed < self._most:
            return True
        self._changed = 0.0
        return False


def unchanged(magnitudes: Sequence[float], most: float) -> list[bool]:
    """For each step whether its work is taken from before: while the errors made, each the relative distance from the
    magnitude last computed, add up to no more than `most`."""
    kept: list[bool] = []
    error, computed = 0.0, magnitudes[0]
    for step, magnitude in enumerate(magnitudes):
        error += abs(1 - magnitude / computed)
        early = step < max(1, BEGINNING * len(magnitudes))
        if early or step == len(magnitudes) - 1 or error > most or all(kept[-IN_A_ROW:]):
            error, computed = 0.0, magnitude
            kept.append(False)
        else:
            kept.append(True)
    return kept


def content(shown: Tensor, noise: float) -> Tensor:
    """What is shown, (frames, rows, columns, width), with each frequency as strong as its share of content."""
    import torch

    axes = (0, 1, 2)
    spectrum = torch.fft.rfftn(shown, dim=axes)
    kept = weights(shown.shape[:3], noise).to(shown.device)[:, :, : spectrum.shape[2], None]
    filtered: Tensor = torch.fft.irfftn(spectrum.mul_(kept), s=shown.shape[:3], dim=axes)
    return filtered


def weights(grid: Sequence[int], noise: float) -> Tensor:
    """Of each frequency: what the best linear guess of the content does with it, along each axis, with a mean of 1."""
    import torch

    noise = min(noise, NOISIEST)
    found = torch.ones(())
    for size in grid:
        rarer = torch.fft.fftfreq(size).abs() ** STEEPNESS
        found = found[..., None] * (1 - noise) / ((1 - noise) ** 2 + noise**2 * rarer)
    return found / found.mean()
