"""How large what a model's blocks add becomes from noise to a clip: measured once, on one clip, and kept as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers import records
from workers.engines.wan.turbo import Asked, standing_in, through
from workers.errors import Misconfigured
from workers.settings import WRONG_VALUE

if TYPE_CHECKING:
    from torch import Tensor

FIX = "make it with `python -m workers models calibrate` while no worker runs"
DIGITS = 5


@dataclass(frozen=True, slots=True)
class Curve:
    """Magnitudes relative to the first one's, at times of the schedule, from noise on. By times it fits any number of
    steps, any shift, and jobs that begin late."""

    times: tuple[float, ...]
    magnitudes: tuple[float, ...]

    def at(self, times: Sequence[float]) -> list[float]:
        import numpy as np

        found: list[float] = np.interp(times, self.times[::-1], self.magnitudes[::-1]).tolist()
        return found


def save(path: Path, curve: Curve) -> None:
    records.write(path, {name: [round(v, DIGITS) for v in values] for name, values in asdict(curve).items()})


def load(path: Path) -> Curve:
    """Raises `Misconfigured` where there is none."""
    try:
        found = json.loads(path.read_text())
        curve = Curve(tuple(map(float, found["times"])), tuple(map(float, found["magnitudes"])))
    except (OSError, ValueError, KeyError, TypeError):
        raise Misconfigured([f"{path} is not there or no curve; {FIX}."], exit_code=WRONG_VALUE) from None
    return curve


@contextmanager
def measuring(transformer: Any) -> Iterator[Measured]:
    """What is generated in here, as always, is measured."""
    measured = Measured(transformer.blocks)
    with standing_in(transformer, measured.forward):
        yield measured


class Measured:
    """All blocks in the place of one. By how much what they add grows from step to step is the mean over tokens."""

    def __init__(self, blocks: Any) -> None:
        self._blocks = blocks
        self._before: dict[int, Tensor] = {}
        self._grown: list[tuple[Tensor, Tensor]] = []

    def forward(self, asked: Asked, hidden: Tensor, *more: Any) -> Tensor:
        time, text = asked
        last = through(self._blocks, hidden, *more)
        norms = (last - hidden).float().norm(dim=-1)
        self._grown.append((time, (norms / self._before.get(text, norms)).mean()))
        self._before[text] = norms
        return last

    def curve(self) -> Curve:
        """Of all texts that were read, in the mean."""
        grown: dict[float, list[float]] = {}
        for time, ratio in self._grown:
            grown.setdefault(float(time), []).append(float(ratio))
        magnitudes, now = [], 1.0
        for ratios in grown.values():
            now *= sum(ratios) / len(ratios)
            magnitudes.append(now)
        return Curve(tuple(grown), tuple(magnitudes))
