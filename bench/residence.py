"""All models on one card, in two processes that take turns: `python -m bench.residence`.

Each process holds what its worker holds, with random weights of the true sizes, and marks what it makes. First the
ten job types run in turn, while the card's memory in use is watched; then a batch of pictures arrives in the middle
of a video. Without a card, or with `--small`, small weights stand in.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from bench.frame import say
from bench.looking import looking
from workers.card import gpu

POLL = 0.02
PROMPT = "a lighthouse at dusk"
TYPES = {
    "sdxl_image_fast": ("sdxl", 6, 15, False),
    "sdxl_image_high": ("sdxl", 6, 25, False),
    "image_fast": ("wan", 1, 25, False),
    "image_high": ("wan", 1, 50, False),
    "video_fast": ("wan", 81, 2, False),
    "video_high": ("wan", 81, 2, False),
    "image7b_fast_enhanced": ("wan", 1, 25, True),
    "image7b_high_enhanced": ("wan", 1, 50, True),
    "video7b_fast_enhanced": ("wan", 81, 2, True),
    "video7b_high_enhanced": ("wan", 81, 2, True),
}
"""Process, images or frames, steps (two for videos: memory does not grow with more), enhanced."""
VIDEO_STEPS = 12


class Child:
    """One process with its models, asked over its standard input, one JSON line a job."""

    def __init__(self, kind: str, folder: Path, asked: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "bench.residence", "--child", kind, "--folder", str(folder)]
        if asked.cache:
            command += ["--cache", str(asked.cache)]
        self._process = subprocess.Popen(
            command + ["--small"] * asked.small,
            env={**gpu.GROW_IN_PLACE, **os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: IO[str] = self._process.stdin
        self._out: IO[str] = self._process.stdout
        self.start = self.answer()

    def send(self, **job: Any) -> None:
        self._in.write(json.dumps(job) + "\n")
        self._in.flush()

    def answer(self) -> dict[str, Any]:
        """The next line that is one; the others are the child's log."""
        return json.loads(next(line for line in self._out if line.startswith("{")))

    def run(self, **job: Any) -> dict[str, Any]:
        self.send(**job)
        return self.answer()

    def close(self) -> None:
        self._in.close()
        self._process.wait()


def ten_types(children: dict[str, Child]) -> None:
    say("", "| type | seconds | card in use, at most, GB |", "|---|---|---|")
    peak = 0.0
    for job_type, (kind, count, steps, enhance) in TYPES.items():
        done = children[kind].run(count=count, steps=steps, enhance=enhance)
        used = max(done["peak"], *(child.run()["peak"] for child in children.values()))
        peak = max(peak, used)
        say(f"| {job_type} | {done['seconds']:.2f} | {used / 1e9:.1f} |")
    say(f"peak of both processes together: {peak / 1e9:.1f} GB of the card")


def arrival(children: dict[str, Child], frames: int) -> None:
    """A batch of pictures that comes when the video has made a third of its steps."""
    sdxl, wan = children["sdxl"], children["wan"]
    picture, video = {"count": 6, "steps": 15}, {"count": frames, "steps": VIDEO_STEPS}
    alone = sdxl.run(**picture)["seconds"]
    video_alone = wan.run(**video)["seconds"]
    wan.send(**video)
    time.sleep(video_alone / 3)
    beside = sdxl.run(**picture)
    delayed = wan.answer()
    own = beside["seconds"] - beside["waited"]
    say(
        "",
        f"| six pictures during a video of {VIDEO_STEPS} steps | seconds |",
        "|---|---|",
        f"| one step of the video, with both texts | {delayed['step']:.2f} |",
        f"| start delay | {beside['waited']:.2f} |",
        f"| the pictures alone | {alone:.2f} |",
        f"| the pictures in the video, once they have the card | {own:.2f} ({own / alone:.2f} times) |",
        f"| the video alone | {video_alone:.2f} |",
        f"| the video's delay | {delayed['seconds'] - video_alone:.2f} |",
    )


def serve(kind: str, asked: argparse.Namespace) -> None:
    """A child's whole life."""
    from workers.card.turn import Turn
    from workers.watch import Watch

    device = "cpu" if asked.small else "cuda"
    turn = Turn(asked.folder, "0", yields=kind == "wan", synchronize=lambda: _synchronize(device))
    began = time.perf_counter()
    with turn.held(Watch()) if not asked.small else nullcontext():
        work = (_sdxl if kind == "sdxl" else _wan)(device, asked)
    if not asked.small:
        gpu.empty()
    _reply(ready=time.perf_counter() - began)
    for line in sys.stdin:
        job = json.loads(line)
        watch = Watch(on_step=turn.offer)
        with _watched_memory(device) as peak:
            began = time.perf_counter()
            if job:
                with turn.held(watch):
                    work(job, watch)
            seconds = time.perf_counter() - began
        step = watch.timings.get("denoise", 0.0) / job.get("steps", 1)
        _reply(seconds=seconds, waited=watch.timings.get("turn", 0.0), step=step, peak=peak[0])


Work = Callable[[dict[str, Any], Any], None]


def _sdxl(device: str, asked: argparse.Namespace) -> Work:
    from bench import sdxl
    from workers.settings import CONFIG_DIR
    from workers.tiny import sdxl as tiny
    from workers.watch import Watch

    small = asked.folder / "sdxl"
    if asked.small:
        tiny.write_config(small)
    card = sdxl.Card(device, small, 64) if asked.small else sdxl.Card(device, CONFIG_DIR / "sdxl", 1024)
    made = sdxl.engine(card)
    made.warm_up(Watch())
    mark = _watermark(device)
    return lambda job, watch: mark(made.generate(sdxl.params(card, job["count"], job["steps"]), watch), watch)


def _wan(device: str, asked: argparse.Namespace) -> Work:
    from bench import qwen, wan
    from workers.engines.qwen.snapshot import find_snapshot
    from workers.settings import CONFIG_DIR
    from workers.tiny import qwen as tiny_qwen
    from workers.tiny import wan as tiny_wan
    from workers.watch import Watch

    tiny_wan.write(asked.folder)
    tiny_qwen.write(asked.folder)
    root = asked.folder / tiny_wan.FOLDER
    sizes = (root / "config", (64, 112), 5) if asked.small else (CONFIG_DIR / "wan", (480, 832), 81)
    bench = wan.Bench(device, sizes[0], root / wan.TOKENIZER, asked.cache, *sizes[1:])
    made = bench.engine()
    made.warm_up(Watch())
    true = {**tiny_qwen.SIZE, "vocab_size": tiny_qwen.VOCABULARY} if asked.small else qwen.TRUE
    enhancer = qwen.enhancer(device, true, find_snapshot(asked.folder, "instruct"), asked.cache)
    enhancer.warm_up(Watch())
    mark = _watermark(device)

    def work(job: dict[str, Any], watch: Any) -> None:
        if job.get("enhance"):
            enhancer.enhance(PROMPT, "image", job["steps"], watch)
        mark(made.generate(bench.params(job["count"], job["steps"]), watch), watch)

    return work


def _watermark(device: str) -> Callable[[list[Any], Any], object]:
    from workers.provenance.watermark import Watermark
    from workers.watch import Watch

    watermark = Watermark(device, lambda job_id: [0, 1] * 16, thumbnails=True)
    watermark.load(Watch())
    watermark.warm_up(Watch())
    return lambda outputs, watch: watermark.mark(outputs, "", watch)


def _synchronize(device: str) -> None:
    if gpu.on_card(device):
        gpu.synchronize(device)


@contextmanager
def _watched_memory(device: str) -> Iterator[list[float]]:
    """The most of the card that was in use meanwhile, by all processes, in bytes; looked at every 20 ms."""
    peak = [0.0]

    def look() -> None:
        memory = gpu.memory(device)
        peak[0] = max(peak[0], memory.used if memory else 0)

    with looking(look, POLL):
        yield peak


def _reply(**facts: float) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--cache", type=Path, help="where compiled code is kept; default: nowhere")
    parser.add_argument("--child", choices=("sdxl", "wan"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        from workers.card.weights import quiet_libraries

        quiet_libraries()
        serve(asked.child, asked)
        return
    with tempfile.TemporaryDirectory() as folder:
        children = {kind: Child(kind, Path(folder), asked) for kind in ("sdxl", "wan")}
        say({kind: f"ready after {child.start['ready']:.1f} s" for kind, child in children.items()})
        try:
            ten_types(children)
            arrival(children, 5 if asked.small else 81)
        finally:
            for child in children.values():
                child.close()


if __name__ == "__main__":
    main()
