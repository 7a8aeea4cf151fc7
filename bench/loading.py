"""From the start of a process to a model that is ready for jobs, by phase: `python -m bench.loading`.

Every start is a process of its own, which loads a checkpoint of the true size with random weights out of `--folder`:
`first` with nothing compiled, `again` with what that kept, both with the files in the page cache; `throttled` as
`again`, but no faster than a disk of `--disk-rate` gives them; `cold` after they were put out of the page cache
(posix_fadvise), so that they come from the disk there is, and without warming up; `plain` as `cold` is, but out of the
page cache and by what the libraries offer for loading. Without a card, or with `--small`, small weights stand in.
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
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bench.disk import MB, throttled
from bench.phases import measure
from workers.card import gpu
from workers.supervision.environment import KEEP_BYTECODE

STARTS = ("first", "again", "throttled", "cold", "plain")
GOALS = {"sdxl": 8, "wan": 15, "qwen": 10}
"""Seconds to ready, files in the page cache, compiled code kept, on an H200."""
NETWORK_VOLUME = 500
"""MB/s, about."""

THROTTLED = (
    "throttled: the files are in the page cache, and each block that is read waits for its tokens: one a byte, "
    "{rate:g} million a second from one bucket for all reading threads, none saved up. GB/s is what came of it."
)
HEAD = "| model, start | GB | python, torch, card | reading | GB/s | libraries, building | fusing | warm-up | ready |"


def start(model: str, how: str, home: Path, asked: argparse.Namespace) -> dict[str, Any] | None:
    """Seconds by phase of a process that starts now; None where it failed."""
    command = [sys.executable, "-m", "bench.loading", "--child", model, "--how", how, "--folder", str(home)]
    command += ["--cache", str(asked.cache), "--began", str(time.monotonic())]
    command += ["--disk-rate", str(asked.disk_rate)]
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

    before = {"throttled": checkpoints.fetch, "cold": checkpoints.evict}
    device = "cpu" if asked.small else gpu.pick_device()
    asked.small = not gpu.on_card(device)
    weights = "small weights: the figures show only that it runs" if asked.small else "seconds by phase"
    say(f"{gpu.card_name(device)}, torch {torch.__version__}, {os.cpu_count()} cores; {weights}.", "")
    say(HEAD, "|---" * (HEAD.count("|") - 1) + "|")
    for model in asked.models:
        home = checkpoints.ready(model, asked.folder, device, small=asked.small)
        gpu.empty()
        for how in asked.starts:
            before.get(how, lambda home: None)(home)
            say(row(model, how, start(model, how, home, asked)))
        if asked.delete:
            shutil.rmtree(home)
    if "throttled" in asked.starts:
        say("", THROTTLED.format(rate=asked.disk_rate))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", type=Path, help="where checkpoints are kept between runs; default: nowhere")
    parser.add_argument("--cache", type=Path, help="where compiled code is kept between runs; default: nowhere")
    parser.add_argument("--models", nargs="*", choices=tuple(GOALS), default=tuple(GOALS))
    parser.add_argument("--starts", nargs="*", choices=STARTS, default=STARTS)
    parser.add_argument("--disk-rate", type=float, default=NETWORK_VOLUME, help="MB/s of throttled starts")
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
        with throttled(asked.disk_rate * MB) if asked.how == "throttled" else nullcontext():
            print(json.dumps(profiled(asked, work)))
        return
    with tempfile.TemporaryDirectory() as nowhere:
        asked.folder = asked.folder or Path(nowhere)
        asked.cache = asked.cache or Path(nowhere) / "compiled"
        table(asked)


if __name__ == "__main__":
    main()
