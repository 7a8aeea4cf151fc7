"""From the start of a process to a model that is ready for jobs, by phase: `python -m bench.loading`.

Every start is a process of its own, which loads a checkpoint of the true size with random weights out of `--folder`:
`first` with nothing compiled, `again` with what that kept, both with the files in the page cache; `cold` after they
were put out of it (posix_fadvise), so that they come from the disk, and without warming up; `plain` as `cold` is, but
out of the page cache and by what the libraries offer for loading. Without a card, or with `--small`, small weights
stand in.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers import garbage
from workers.card import gpu
from workers.supervision.environment import KEEP_BYTECODE

STARTS = ("first", "again", "cold", "plain")
GOALS = {"sdxl": 8, "wan": 15, "qwen": 10}
"""Seconds to ready, files in the page cache, compiled code kept, on an H200."""

HEAD = "| model, start | GB | python, torch, card | reading | GB/s | libraries, building | fusing | warm-up | ready |"


def start(model: str, how: str, home: Path, asked: argparse.Namespace) -> dict[str, Any] | None:
    """Seconds by phase of a process that starts now; None where it failed."""
    command = [sys.executable, "-m", "bench.loading", "--child", model, "--how", how, "--folder", str(home)]
    command += ["--cache", str(asked.cache), "--began", str(time.monotonic())]
    if asked.profile:
        command += ["--profile", str(asked.profile)]
    environment = {**gpu.GROW_IN_PLACE, **os.environ, **bytecode_kept(asked.cache)}
    done = subprocess.run(command + ["--small"] * asked.small, env=environment, stdout=subprocess.PIPE, text=True)
    return None if done.returncode else json.loads(done.stdout.splitlines()[-1])


def bytecode_kept(cache: Path) -> dict[str, str]:
    """Beside the libraries, as their installer leaves it; in the cache where nobody may write there."""
    import torch

    if os.access(Path(torch.__file__).parent, os.W_OK):
        return KEEP_BYTECODE
    return {**KEEP_BYTECODE, "PYTHONPYCACHEPREFIX": str(cache / "bytecode")}


def row(model: str, how: str, facts: dict[str, Any] | None) -> str:
    if facts is None:
        return f"| {model}, {how}: failed |"
    goal = f" (goal {GOALS[model]})" if how == "again" else ""
    rate = facts["gb"] / facts["read"] if facts.get("read") else None
    figures = [facts["gb"], facts["process"], facts.get("read"), rate, facts["rest"], facts.get("fuse")]
    cells = ["" if figure is None else f"{figure:.2f}" for figure in (*figures, facts.get("warm_up"))]
    shapes = facts.get("shapes")
    cells[-1] += f" ({' + '.join(f'{seconds:.1f}' for seconds in shapes)})" if shapes else ""
    return "| " + " | ".join([f"{model}, {how}", *cells, f"**{facts['ready']:.2f}**{goal}"]) + " |"


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


def profiled(asked: argparse.Namespace, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gives; where its time went, by function, is left in a file."""
    if asked.profile is None:
        return work()
    with cProfile.Profile() as profile:
        facts = work()
    asked.profile.mkdir(parents=True, exist_ok=True)
    with (asked.profile / f"{asked.child}-{asked.how}.txt").open("w") as file:
        pstats.Stats(profile, stream=file).sort_stats("cumtime").print_stats(200)
    return facts


def table(asked: argparse.Namespace) -> None:
    import torch

    from bench import checkpoints
    from bench.frame import say

    device = "cpu" if asked.small else gpu.pick_device()
    asked.small = not gpu.on_card(device)
    weights = "small weights: the figures show only that it runs" if asked.small else "seconds by phase"
    say(f"{gpu.card_name(device)}, torch {torch.__version__}, {os.cpu_count()} cores; {weights}.", "")
    say(HEAD, "|---" * (HEAD.count("|") - 1) + "|")
    for model in asked.models:
        home = checkpoints.ready(model, asked.folder, device, small=asked.small)
        gpu.empty()
        for how in asked.starts:
            if how == "cold":
                checkpoints.evict(home)
            say(row(model, how, start(model, how, home, asked)))
        if asked.delete:
            shutil.rmtree(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", type=Path, help="where checkpoints are kept between runs; default: nowhere")
    parser.add_argument("--cache", type=Path, help="where compiled code is kept between runs; default: nowhere")
    parser.add_argument("--models", nargs="*", choices=tuple(GOALS), default=tuple(GOALS))
    parser.add_argument("--starts", nargs="*", choices=STARTS, default=STARTS)
    parser.add_argument("--delete", action="store_true", help="each model's checkpoint after its last start")
    parser.add_argument(
        "--profile", type=Path, help="a folder for where the time goes, by function; it all takes longer"
    )
    parser.add_argument("--child", choices=tuple(GOALS), help=argparse.SUPPRESS)
    parser.add_argument("--how", choices=STARTS, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        device = "cpu" if asked.small else "cuda"
        work = functools.partial(measure, asked.child, asked.how, asked.folder, device, asked.cache, asked.began)
        print(json.dumps(profiled(asked, work)))
        return
    with tempfile.TemporaryDirectory() as nowhere:
        asked.folder = asked.folder or Path(nowhere)
        asked.cache = asked.cache or Path(nowhere) / "compiled"
        table(asked)


if __name__ == "__main__":
    main()
