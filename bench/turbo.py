"""What each preset's turbo saves here, and what it changes: `python -m bench.turbo [TYPE …]`.

Our engines with random weights of the true sizes, with and without the preset's table, in turn; the same seeds. Clips
also with nothing but one of `REUSE` or `precision = "fp8"`; `--precision` leaves out all others. How far the pictures
move apart says nothing of how they look: `bench.quality` does, on weights that mean something. Without a card, or with
`--small`, small weights stand in.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import sdxl, wan
from bench.frame import Ceilings, head, interleaved, psnr, say
from workers.card import gpu
from workers.card.weights import quiet_libraries
from workers.engines.wan.engine import EIGHT_BITS
from workers.engines.wan.originals import TOKENIZER
from workers.job import Preset, SamplingParams, Turbo
from workers.settings import CONFIG_DIR
from workers.tables import load_presets
from workers.tiny import sdxl as tiny_sdxl
from workers.tiny import wan as tiny_wan
from workers.watch import Watch

HEAD = "| type | turbo | plain, s | turbo, s | times | apart |\n|---|---|---|---|---|---|"


REUSE = tuple(Turbo(reuse=most, reuse_by=by) for by, most in (("magnitude", 0.12), ("spectrum", 0.2)))
"""Work kept from step to step by other criteria than the first block, as far as their authors go with this model."""


def named(turbo: Turbo) -> str:
    guided = f"guided {turbo.guided[0]:g} to {turbo.guided[1]:g}" if turbo.guided != Turbo().guided else ""
    reuse = f"reuse {turbo.reuse:g} by {turbo.reuse_by}" if turbo.reuse else ""
    return ", ".join(filter(None, (guided, reuse, turbo.precision)))


def tables(preset: Preset, precision: bool) -> list[Turbo]:
    """What is tried: the preset's own and other criteria, unless it is about `precision`, and in 8 bits what can be."""
    own = [] if precision else [preset.turbo]
    if preset.media != "video":
        return own
    return [*own, *([] if precision else REUSE), EIGHT_BITS]


def row(preset: Preset, table: Turbo, engine: Any, asked: SamplingParams, runs: int, device: str) -> str:
    """Both ways in turn, and the decibels between their last pictures."""
    shown: dict[str, Any] = {}

    def make(name: str, turbo: Turbo) -> None:
        shown[name] = np.stack([o.frames for o in engine.generate(replace(asked, turbo=turbo), Watch())])

    ways = {"plain": Turbo(), "turbo": replace(table, on=True)}
    times = interleaved({name: lambda n=name, t=way: make(n, t) for name, way in ways.items()}, runs, device)
    plain, turbo = times["plain"], times["turbo"]
    apart = psnr(shown["plain"] / 255, shown["turbo"] / 255)
    what = f"{preset.type}, {len(asked.seeds)} x {asked.steps} steps"
    return f"| {what} | {named(table)} | {plain} | {turbo} | {plain.median / turbo.median:.2f} | {apart} dB |"


def sdxl_bench(small: bool, folder: Path) -> tuple[Any, SamplingParams]:
    card = sdxl.Card("cpu", folder, 64) if small else sdxl.Card("cuda", CONFIG_DIR / "sdxl", 1024)
    tiny_sdxl.write_config(folder)
    return sdxl.engine(card), sdxl.params(card, 1 if small else 6, 15)


def wan_bench(small: bool, folder: Path) -> tuple[Any, SamplingParams]:
    tiny_wan.write(folder)
    root = folder / tiny_wan.FOLDER
    sizes = ("cpu", root / "config", root / TOKENIZER, None, (64, 112), 5)
    true = ("cuda", CONFIG_DIR / "wan", root / TOKENIZER, None, (480, 832), 81)
    made = wan.Bench(*(sizes if small else true))
    engine, params = made.engine(eight_bits=True), made.params(made.clip, 25)
    engine.calibrate(params, Watch())
    return engine, params


def main(arguments: Sequence[str] | None = None) -> None:
    presets = {name: preset for name, preset in load_presets().items() if preset.turbo != Turbo()}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", metavar="TYPE", default=list(presets), help=f"of {', '.join(presets)}")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, help="default: the preset's")
    parser.add_argument("--precision", action="store_true", help="nothing but clips in 8 bits")
    asked = parser.parse_args(arguments)
    small = asked.small or not torch.cuda.is_available()
    device = "cpu" if small else "cuda"
    quiet_libraries()
    say(head(device, Ceilings()), HEAD)
    for kind, opened in (("sdxl", sdxl_bench), ("wan", wan_bench)):
        with tempfile.TemporaryDirectory() as folder:
            wanted = [presets[name] for name in asked.types if presets[name].kind == kind and not presets[name].enhance]
            chosen = [preset for preset in wanted if tables(preset, asked.precision)]
            engine, params = opened(small, Path(folder)) if chosen else (None, None)
            for preset in chosen:
                wished = replace(params, steps=asked.steps or preset.steps, guidance=preset.guidance)
                for table in tables(preset, asked.precision):
                    say(row(preset, table, engine, wished, asked.runs, device))
            engine = None
            gpu.empty()


if __name__ == "__main__":
    main()
