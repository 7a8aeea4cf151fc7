"""How much of delivery hides behind generation: `python -m bench.overlap`.

Jobs are queued, every upload is late, and a worker process makes them. With perfect overlap the whole takes as long
as the generations one after the other and one delivery; the ratio says how much longer it took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.local.stack import LocalStack

ROOT = Path(__file__).resolve().parent.parent
TYPE = "sdxl_image_fast"
MAKING = ("encode_text", "denoise", "decode")
DELIVERING = ("encode", "upload")
TINY = (str(ROOT / "sdxl_worker.py"),)
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
    return str(ROOT / "tests" / "children" / "fake_worker.py"), "sdxl", str(steps), str(seconds)


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
        with _worker(command, models, Path(folder), stack.env):
            accounts = [_account(stack, job_id) for job_id in ids]
        heard = [seen for seen in stack.double.callbacks() if seen.answer == 200]
    begun = min(seen.at for seen in heard if seen.status == "processing")
    ended = max(min(seen.at for seen in heard if (seen.job_id, seen.status) == (id_, "completed")) for id_ in ids)
    making = known * jobs if known else sum(_sum(account, MAKING) for account in accounts)
    return Overlap(jobs, ended - begun, making, min(_sum(account, DELIVERING) for account in accounts))


@contextmanager
def _worker(command: Sequence[str], models: Path, folder: Path, stack: Mapping[str, str]) -> Iterator[None]:
    places = {"MODEL_ROOT": models, "OUTBOX_DIR": folder / "outbox", "OURVIDZ_RUN_DIR": folder / "run"}
    env = {**os.environ, **stack, **{name: str(place) for name, place in places.items()}}
    env |= {"OMP_NUM_THREADS": "1", "DEVICE": "cpu", "PYTHONPATH": str(ROOT)}
    env["WATERMARK"] = "false"  # it takes a processor longer than the pictures themselves
    with subprocess.Popen([sys.executable, *command], env=env, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def _account(stack: LocalStack, job_id: str) -> Mapping[str, Any]:
    job = stack.wait_for(job_id, LIMIT)
    assert job["status"] == "completed", job["error_message"]
    return job["metadata"]["timings"]


def _sum(timings: Mapping[str, float], phases: Sequence[str]) -> float:
    return sum(timings.get(phase, 0.0) for phase in phases)


def main() -> None:
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


if __name__ == "__main__":
    main()
