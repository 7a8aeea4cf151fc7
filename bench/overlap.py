"""How much of delivery hides behind generation: `python -m bench.overlap`.

Jobs are queued, every upload is late, and a worker process makes them. With perfect overlap the whole takes as long
as the generations one after the other and one delivery; the ratio says how much longer it took. On a card, or where
types are named, it also says how long the card stood idle: `bench/deliveries.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.card import gpu
from workers.local.stack import LocalStack
from workers.tables import load_presets
from workers.watch import MAKING, ORDER

ROOT = Path(__file__).resolve().parent.parent
TYPE = "sdxl_image_fast"
DELIVERING = ORDER[len(MAKING) :]
TINY = ("sdxl_worker.py",)
LIMIT = 300.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """Seconds. `wall` runs from the first claim to the last accepted callback; `delivery` is the shortest one."""

    jobs: int
    wall: float
    making: float
    delivery: float

    @property
    def ratio(self) -> float:
        return self.wall / (self.making + self.delivery)

    def __str__(self) -> str:
        parts = f"{self.jobs} jobs in {self.wall:.2f} s, {self.making:.2f} s of making + {self.delivery:.2f} s"
        return f"{parts} of one delivery: ratio {self.ratio:.3f}"


def fake(steps: int, seconds: float) -> tuple[str, ...]:
    """A worker whose every job takes `steps` times `seconds`."""
    return "tests/children/fake_worker.py", "sdxl", str(steps), str(seconds)


def measure(
    command: Sequence[str],
    models: Path,
    *,
    images: int,
    jobs: int = 10,
    latency: float = 2.0,
    known: float | None = None,
) -> Overlap:
    """One run. `known` is what a job takes to make, where that is not to be read from its callback."""
    with LocalStack() as stack, tempfile.TemporaryDirectory() as folder:
        stack.double_faults.add("latency", path="/storage/v1/object/*", seconds=latency)
        ids = [stack.submit(TYPE, "a red bicycle", num_images=images) for _ in range(jobs)]
        with worker(command, Path(folder), _small(models, stack.env)):
            accounts = [_account(stack, job_id) for job_id in ids]
        heard = [seen for seen in stack.double.callbacks() if seen.answer == 200]
    begun = min(seen.at for seen in heard if seen.status == "processing")
    ended = max(min(seen.at for seen in heard if (seen.job_id, seen.status) == (id_, "completed")) for id_ in ids)
    making = known * jobs if known else sum(total(account, MAKING) for account in accounts)
    return Overlap(jobs, ended - begun, making, min(total(account, DELIVERING) for account in accounts))


@contextmanager
def worker(
    command: Sequence[str], folder: Path, env: Mapping[str, str], log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker's process, told to end with the context. `folder` is for what it writes, `log` for what it says."""
    places = {"OUTBOX_DIR": str(folder / "outbox"), "OURVIDZ_RUN_DIR": str(folder / "run")}
    script, *arguments = command
    with (log or Path(os.devnull)).open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / script), *arguments],
            env={**env, **places, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))},
            stdout=said,
        )
        with process:
            try:
                yield process
            finally:
                process.terminate()


def _small(models: Path, stack: Mapping[str, str]) -> dict[str, str]:
    """The environment for small weights, which a processor makes pictures with sooner than it marks them."""
    env = {"MODEL_ROOT": str(models), "OMP_NUM_THREADS": "1", "DEVICE": "cpu", "WATERMARK": "false"}
    return {**os.environ, **stack, **env}


def _account(stack: LocalStack, job_id: str) -> Mapping[str, Any]:
    job = stack.wait_for(job_id, LIMIT)
    assert job["status"] == "completed", job["error_message"]
    return job["metadata"]["timings"]


def total(timings: Mapping[str, float], phases: Iterable[str]) -> float:
    return sum(timings.get(phase, 0.0) for phase in phases)


def on_processor() -> None:
    from workers.cli.small import write_volume

    with tempfile.TemporaryDirectory() as folder:
        write_volume(Path(folder))
        results = {
            "one image each, small SDXL": measure(TINY, Path(folder), images=1),
            "six images each, 2.5 s": measure(fake(25, 0.1), Path(folder), images=6, known=2.5),
        }
    for name, result in results.items():
        print(f"{name}: {result}")
    print(json.dumps({name: round(result.ratio, 3) for name, result in results.items()}))


def with_true_engines(asked: argparse.Namespace, folder: Path, device: str) -> None:
    """One run for each kind of worker among the types."""
    import torch

    from bench import deliveries
    from bench.frame import say

    say(f"{gpu.card_name(device)}, torch {torch.__version__}, {os.cpu_count()} cores")
    kinds: dict[str, list[str]] = {}
    for job_type in asked.types or [TYPE]:
        kinds.setdefault(load_presets()[job_type].kind, []).append(job_type)
    for kind, types in kinds.items():
        queue = deliveries.Queue(types, asked.jobs, asked.latency, asked.steps)
        volume = deliveries.volume(kind, folder, device)
        say("", *deliveries.table(kind, queue, deliveries.measure(kind, queue, volume, folder / f"{kind}.log")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", nargs="*", choices=load_presets(), help=f"default on a card: {TYPE}")
    parser.add_argument("--jobs", type=int, default=10, help="of each kind of worker")
    parser.add_argument("--latency", type=float, default=2.4, help="seconds by which every object is late")
    parser.add_argument("--steps", type=int, help="of clips; default: as their types have it")
    parser.add_argument("--folder", type=Path, help="where weights, compiled code and logs stay; default: nowhere")
    parser.add_argument("--small", action="store_true", help="small weights, on the processor")
    asked = parser.parse_args()
    device = "cpu" if asked.small else gpu.pick_device()
    if not asked.types and not gpu.on_card(device):
        return on_processor()
    with tempfile.TemporaryDirectory() as nowhere:
        with_true_engines(asked, asked.folder or Path(nowhere), device)
    return None


if __name__ == "__main__":
    main()
