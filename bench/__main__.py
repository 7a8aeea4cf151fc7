"""All that is said of speed in docs/performance.md, measured again, one after the other: `python -m bench [NAME …]`.

Each is a process of its own, so that it has the card for itself. Without a card, or with `--small`, small weights stand
in: that shows in minutes that everything runs, and no more. `--folder` keeps weights and compiled code for next time.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.frame import say
from workers.card import gpu


@dataclass(frozen=True, slots=True)
class Bench:
    """Its arguments on a card, and with small weights; `keeps` are those that name a folder. What is compiled is the
    same for all, weights are not."""

    what: str
    card: str = ""
    small: str = ""
    keeps: tuple[str, ...] = ()

    def arguments(self, small: bool, weights: Path, compiled: Path) -> list[str]:
        own = ["--small", *shlex.split(self.small)] if small else shlex.split(self.card)
        places = {"--folder": weights, "--cache": compiled}
        return [*own, *(f"{option}={places[option]}" for option in self.keeps)]


NO_COPIES = "--count 1 --clips 0 --unmarked 0"
BENCHES = {
    "sdxl": Bench("Six pictures and one, against plain diffusers", small="--runs 1"),
    "wan": Bench(
        "The video model, against plain diffusers",
        card="--runs-of-whole-video 1",
        small="--runs 1 --runs-of-video 1 --runs-of-whole-video 0",
        keeps=("--cache",),
    ),
    "qwen": Bench("The enhancer, against plain transformers", small="--runs 1 --tokens 16", keeps=("--cache",)),
    "residence": Bench("All models on one card, in turns", keeps=("--cache",)),
    "loading": Bench("Starts", card="--delete", small="--starts first again", keeps=("--folder", "--cache")),
    "overlap": Bench(
        "How long the card stands idle",
        card="--types sdxl_image_fast video_fast --steps 5",
        small="--types sdxl_image_fast --jobs 3 --latency 0.4",
        keeps=("--folder",),
    ),
    "turbo": Bench("Turbo", card="--steps 8 --runs 1", small="--steps 2 --runs 1"),
    "provenance": Bench("What marks and signatures cost", card=NO_COPIES, small=f"{NO_COPIES} --runs 1"),
}


def run(name: str, *, small: bool, folder: Path) -> bool:
    """Whether it came to its end."""
    bench = BENCHES[name]
    command = ["-m", f"bench.{name}", *bench.arguments(small, folder / name, folder / "compiled")]
    say(f"\n## {bench.what}\n", f"`python {shlex.join(command)}`\n")
    return subprocess.run([sys.executable, *command]).returncode == 0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; default: all of them")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - set(BENCHES):
        parser.error(f"{', '.join(sorted(unknown))}: not among {', '.join(BENCHES)}")
    small = asked.small or not gpu.on_card(gpu.pick_device())
    with tempfile.TemporaryDirectory() as nowhere:
        folder = asked.folder or Path(nowhere)
        failed = [name for name in asked.names or BENCHES if not run(name, small=small, folder=folder)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
