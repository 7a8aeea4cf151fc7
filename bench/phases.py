"""One start, measured by phase from within its process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers import garbage
from workers.card import gpu


class Laps:
    """Seconds since the process began, and since the last look."""

    def __init__(self, began: float) -> None:
        self._began = self._last = began

    def lap(self) -> float:
        last, self._last = self._last, time.monotonic()
        return self._last - last

    @property
    def all(self) -> float:
        return self._last - self._began


def measure(model: str, how: str, home: Path, device: str, cache: Path | None, began: float) -> dict[str, Any]:
    """A child's whole life."""
    garbage.search_seldom()
    import torch

    laps = Laps(began)
    if gpu.on_card(device):
        torch.zeros(1, device=device)
    facts: dict[str, Any] = {"process": laps.lap()}
    if how == "plain":
        from bench.plain import PLAIN

        kept = PLAIN[model](home, device)
        _wait(device)
        return {**facts, "gb": _gigabytes(kept), "rest": laps.lap(), "ready": laps.all}
    facts |= _ours(model, how, home, device, cache, laps)
    garbage.keep_what_is_there()
    facts["rest"] += laps.lap()
    return {**facts, "ready": laps.all}


def _ours(model: str, how: str, home: Path, device: str, cache: Path | None, laps: Laps) -> dict[str, Any]:
    from structlog.testing import capture_logs

    from workers.watch import Watch

    made = ENGINES[model](home, device, cache)
    fused: list[float] = []
    adopt = made.adopt

    def adopted(*parts: Any) -> None:
        began = time.monotonic()
        adopt(*parts)
        _wait(device)
        fused.append(time.monotonic() - began)

    made.adopt = adopted
    with capture_logs() as events:
        made.load(Watch())
        _wait(device)
    read = [event for event in events if event["event"] == "weights read"]
    facts: dict[str, Any] = {part: sum(event[of] for event in read) for part, of in (("gb", "gb"), ("read", "seconds"))}
    facts |= {"fuse": fused[0], "rest": laps.lap() - facts["read"] - fused[0]}
    if how != "cold":
        facts |= {"shapes": _shapes_warmed_up(made, device) if model == "wan" else [], "warm_up": 0.0}
        made.warm_up(Watch())
        _wait(device)
        facts["warm_up"] = laps.lap()
    return facts


def _shapes_warmed_up(made: Any, device: str) -> list[float]:
    """Seconds of each shape; warming up afterwards has nothing left to do."""
    from workers.watch import Watch

    seconds = []
    shapes, made._warm_up_shapes = made._warm_up_shapes, []
    for shape in shapes:
        began = time.monotonic()
        made._practise(shape, Watch())
        _wait(device)
        seconds.append(time.monotonic() - began)
    return seconds


def _sdxl(home: Path, device: str, cache: Path | None) -> Any:
    from workers.engines.sdxl import SdxlEngine
    from workers.tiny.sdxl import CHECKPOINT

    return SdxlEngine(home / CHECKPOINT, device=device, cache=cache)


def _wan(home: Path, device: str, cache: Path | None) -> Any:
    from workers.engines.wan import WanEngine
    from workers.tiny.wan import FOLDER

    width, height, clip = (480, 832, 81) if gpu.on_card(device) else (64, 112, 5)
    shapes = [(*size, frames) for frames in (1, clip) for size in ((width, height), (height, width))]
    return WanEngine(home / FOLDER, device=device, cache=cache, warm_up_shapes=shapes)


def _qwen(home: Path, device: str, cache: Path | None) -> Any:
    from workers.engines.qwen.engine import QwenEnhancer
    from workers.engines.qwen.snapshot import find_snapshot
    from workers.prompting.rules import load_rules

    snapshot = find_snapshot(home, "instruct")
    return QwenEnhancer(snapshot, device=device, variant="instruct", rules=load_rules().enhance, cache=cache)


ENGINES: dict[str, Callable[[Path, str, Path | None], Any]] = {"sdxl": _sdxl, "wan": _wan, "qwen": _qwen}


def _wait(device: str) -> None:
    if gpu.on_card(device):
        gpu.synchronize(device)


def _gigabytes(models: list[Any]) -> float:
    return sum(tensor.nbytes for model in models for tensor in model.parameters()) / 1e9
