"""What the card does while results leave: one worker process with a full queue and late uploads."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from bench.idle import Job, Look, Run
from bench.looking import looking
from bench.overlap import worker
from workers.cli.small import write_volume
from workers.kinds import KINDS
from workers.local.stack import TERMINAL, LocalStack
from workers.ops.card import Card
from workers.supervision.environment import worker_environment
from workers.tables import load_presets

LIMIT = 540.0
"""Seconds for a worker's start, with nothing compiled, and all of its jobs."""

LOOK_EVERY = 0.1
SAID = 3
"""Of a worker's last events, how many are shown where it fails."""


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for one worker: so many jobs of these types in turn, `steps` in each clip where they are given.
    Storage answers `latency` seconds late."""

    types: Sequence[str]
    jobs: int
    latency: float
    steps: int | None = None


def measure(kind: str, queue: Queue, volume: Mapping[str, str], log: Path) -> Run:
    """One worker's life, from its start to the last accepted callback. `volume`: the worker's environment beside the
    services'. What it logs goes to `log`. Raises `RuntimeError` where it ends, or a job fails."""
    with LocalStack() as stack, tempfile.TemporaryDirectory() as folder:
        stack.double_faults.add("latency", path="/storage/v1/object/*", seconds=queue.latency)
        ids = [stack.submit(job_type, **asked(queue, job_type, n)) for n, job_type in enumerate(_in_turn(queue))]
        env = worker_environment(len(KINDS)) | stack.env | volume | {"LOG_FORMAT": "json"}
        with worker([f"{kind}_worker.py"], Path(folder), env, log) as process, _looked_at(process.pid) as looks:
            metadata = _wait(stack, ids, process, log)
        heard = [seen for seen in stack.double.callbacks() if (seen.status, seen.answer) == ("completed", 200)]
    accepted = {seen.job_id: seen.at for seen in reversed(heard)}
    events = _events(log)
    claimed, made = (_times(events, name) for name in ("claimed", "made"))
    jobs = [Job(claimed[each], made[each], accepted[each], metadata[each]) for each in ids]
    return Run(sorted(jobs, key=lambda job: job.made), looks, events)


def volume(kind: str, folder: Path, device: str) -> dict[str, str]:
    """Weights of the true sizes where there is a card, else a small volume, written where `folder` has none. As the
    worker's environment."""
    if device == "cpu":
        write_volume(folder / "small")
        return {"MODEL_ROOT": str(folder / "small"), "DEVICE": device}
    from bench import checkpoints
    from workers.card import gpu

    places = {"MODEL_ROOT": checkpoints.ready(kind, folder, device, small=False)}
    if KINDS[kind].enhancer is not None:
        places["HF_HOME"] = checkpoints.ready("qwen", folder, device, small=False)
    gpu.empty()
    return {name: str(place) for name, place in places.items()} | {"DEVICE": device}


def table(kind: str, queue: Queue, run: Run) -> list[str]:
    facts = run.facts()
    head = f"{kind}: {queue.jobs} jobs of {', '.join(queue.types)}, every object {queue.latency} s late"
    rows = ("| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in facts.items()))
    return [head, *rows, f"{run.overlap}", json.dumps({kind: facts})]


def _in_turn(queue: Queue) -> Iterable[str]:
    return islice(cycle(queue.types), queue.jobs)


def asked(queue: Queue, job_type: str, number: int) -> dict[str, Any]:
    """What a job of the queue is submitted with. No two prompts are equal: texts are remembered."""
    preset = load_presets()[job_type]
    few = {"sample_steps": queue.steps} if queue.steps and preset.media == "video" else {}
    many = {"num_images": preset.outputs[-1]} if len(preset.outputs) > 1 else {}
    return {"prompt": f"a red bicycle beside house number {number + 1}", **few, **many}


def _wait(
    stack: LocalStack, ids: Sequence[str], process: subprocess.Popen[bytes], log: Path
) -> dict[str, Mapping[str, Any]]:
    """Metadata by job. Raises `RuntimeError`."""
    deadline = time.monotonic() + LIMIT
    while (jobs := [stack.job(each) for each in ids]) and not all(job["status"] in TERMINAL for job in jobs):
        if process.poll() is not None or time.monotonic() > deadline:
            last = json.dumps(_events(log)[-SAID:])
            raise RuntimeError(
                f"not all jobs ended; the worker's exit code is {process.returncode}, it said last {last}"
            )
        time.sleep(LOOK_EVERY)
    if failed := [job["error_message"] for job in jobs if job["status"] != "completed"]:
        raise RuntimeError(f"{len(failed)} jobs failed: {failed[0]}")
    return {job["id"]: job["metadata"] for job in jobs}


@contextmanager
def _looked_at(pid: int) -> Iterator[list[Look]]:
    """The card and this process meanwhile."""
    looks: list[Look] = []
    card = Card()

    def look() -> None:
        seen = card.read()
        busy, used = (None, None) if seen is None else (seen.utilization, seen.used)
        looks.append(Look(time.time(), busy, used, _memory(pid)))

    with looking(look, LOOK_EVERY):
        yield looks


def _memory(pid: int) -> int:
    """Bytes that no file backs; 0 of a process that is gone."""
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _events(log: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def _times(events: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    """Of each job the last event of this name."""
    return {e["job"]: datetime.fromisoformat(e["timestamp"]).timestamp() for e in events if e["event"] == name}


def _cell(value: Any) -> str:
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, Mapping) else str(value)
