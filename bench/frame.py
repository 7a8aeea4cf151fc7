"""What measurements of speed share: times taken in turn, the card's two ceilings, PSNR, and a table of rows."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from workers.card import gpu

HEAD = "| what | plain, s | ours, s | times | floor, s | of floor | fidelity |"


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each run that counts."""

    runs: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def __str__(self) -> str:
        spread = f" ({min(self.runs):.3g}-{max(self.runs):.3g}, n={len(self.runs)})"
        return f"{self.median:.3f}{spread}"


@dataclass(frozen=True, slots=True)
class Row:
    """`floor` in seconds: what this card's ceilings allow for the work; 0 where they are not known."""

    what: str
    plain: Times
    ours: Times
    floor: float = 0.0
    fidelity: str = ""

    def __str__(self) -> str:
        floor, share = ("", "") if not self.floor else (f"{self.floor:.2f}", f"{self.floor / self.ours.median:.0%}")
        cells = (self.what, self.plain, self.ours, f"{self.plain.median / self.ours.median:.2f}", floor, share)
        return "| " + " | ".join(map(str, (*cells, self.fidelity))) + " |"


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the card gives to a large matrix product in 16 bits (FLOP/s) and to a large copy (bytes/s, read and
    written), measured now."""

    flops: float = field(default=math.inf)
    bandwidth: float = field(default=math.inf)


def ceilings(device: str, side: int = 8192) -> Ceilings:
    if not gpu.on_card(device):
        return Ceilings()
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randint(0, 255, (2 << 30,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product, copy = (
        interleaved({"": do}, 10, device)[""].median for do in (lambda: a @ b, lambda: target.copy_(source))
    )
    return Ceilings(2 * side**3 / product, 2 * len(source) / copy)


def interleaved(
    cases: Mapping[str, Callable[[], Any]], runs: int, device: str, *, discard: int = 1
) -> dict[str, Times]:
    """Every case in turn; the first `discard` rounds do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(runs + discard):
        for name, case in cases.items():
            seconds[name].append(timed(case, device))
    return {name: Times(taken[discard:]) for name, taken in seconds.items()}


def timed(work: Callable[[], Any], device: str) -> float:
    wait = (lambda: gpu.synchronize(device)) if gpu.on_card(device) else (lambda: None)
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def psnr(picture: Any, truth: Any) -> float:
    """Decibels between pictures with values from 0 to 1."""
    return round(-10 * math.log10(max(float(((picture - truth) ** 2).mean()), 1e-12)), 1)


def say(*lines: object) -> None:
    for line in lines:
        print(line, flush=True)


def head(device: str, found: Ceilings) -> str:
    if not gpu.on_card(device):
        return f"{gpu.card_name(device)}, torch {torch.__version__}, small weights: the figures show only that it runs."
    rates = f", {found.flops / 1e12:.0f} TFLOP/s in 16 bits, copies {found.bandwidth / 1e12:.2f} TB/s"
    known = rates if math.isfinite(found.flops) else ""
    return f"{gpu.card_name(device)}, torch {torch.__version__}{known}; random weights of the true sizes."


def table_head() -> str:
    return f"\n{HEAD}\n" + "|---" * (HEAD.count("|") - 1) + "|"


def footprint(device: str) -> str:
    memory = gpu.memory(device)
    if memory is None:
        return "memory: no card"
    return f"memory: {memory.used / 1e9:.1f} GB of the card in use, at most {memory.peak / 1e9:.1f} GB of tensors"
