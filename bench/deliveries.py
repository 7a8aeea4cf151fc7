"""What the card does while results leave: one worker process with a full queue and late uploads.

Of how long the card stood idle there are three accounts: the worker's own, which it also logs; what the phases of all
jobs leave of the time in which they were made; and the driver's, which knows nothing of jobs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

from bench.overlap import DELIVERING, MAKING, Overlap, total, worker
from workers.cli.small import write_volume
from workers.kinds import KINDS
from workers.local.stack import TERMINAL, LocalStack
from workers.ops.card import Card
from workers.supervision.environment import worker_environment
from workers.tables import load_presets

LIMIT = 540.0
"""Seconds for a worker's start, with nothing compiled, and all of its jobs."""

LOOK_EVERY = 0.1
QUIET = ("info", "debug")


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for one worker: so many jobs of these types in turn, `steps` in each clip where they are given.
    Storage answers `latency` seconds late."""

    types: Sequence[str]
    jobs: int
    latency: float
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """When it was claimed, made, and accepted by the receiver, in seconds of the epoch; and what was said of it."""

    claimed: float
    made: float
    accepted: float
    metadata: Mapping[str, Any]

    def seconds(self, phases: Iterable[str]) -> float:
        return total(self.metadata["timings"], phases)


@dataclass(frozen=True, slots=True)
class Look:
    """`busy` in percent of the last moments, and bytes in use of the card and of the worker's own memory; None for a
    card that is not there."""

    at: float
    busy: int | None
    card: int | None
    host: int


@dataclass(frozen=True, slots=True)
class Run:
    """`jobs` in the order in which they were made, `events` as the worker logged them."""

    jobs: Sequence[Job]
    looks: Sequence[Look]
    events: Sequence[Mapping[str, Any]]

    @property
    def span(self) -> float:
        """Seconds from the first claim to the last job's pixels."""
        return self.jobs[-1].made - self.jobs[0].claimed

    @property
    def overlap(self) -> Overlap:
        return Overlap(
            jobs=len(self.jobs),
            wall=max(job.accepted for job in self.jobs) - self.jobs[0].claimed,
            making=sum(job.seconds(MAKING) for job in self.jobs),
            delivery=min(job.seconds(DELIVERING) for job in self.jobs),
        )

    @property
    def idle(self) -> dict[str, float]:
        """Shares of the span by who counted. The worker counts from job to job: what was before the first one's end is
        its start."""
        since = self.jobs[-1].made - self.jobs[0].made
        own = sum(job.metadata["idle_share"] * (job.made - before.made) for before, job in pairwise(self.jobs))
        shares = {"phases": 1 - self.overlap.making / self.span, "worker": own / since if since else 0.0}
        busy = [look.busy for look in self.looks if look.busy is not None and self._is_within(look)]
        return shares | ({"driver": 1 - statistics.fmean(busy) / 100} if busy else {})

    def _is_within(self, look: Look) -> bool:
        return self.jobs[0].claimed <= look.at <= self.jobs[-1].made

    def facts(self) -> dict[str, Any]:
        last = self.jobs[-1]
        ready = next(event for event in self.events if event["event"] == "ready")
        return {
            "idle": {name: round(share, 4) for name, share in self.idle.items()},
            "ratio": round(self.overlap.ratio, 3),
            "making": round(self.span, 2),
            "last_delivery": round(last.accepted - last.made, 2),
            "making_of_one": _medians(self.jobs, MAKING),
            "delivery_of_one": _medians(self.jobs, DELIVERING),
            "host_gb": _most(look.host for look in self.looks),
            "card_gb": _most(look.card or 0 for look in self.looks),
            "card_tensors_gb": _most(job.metadata["memory"]["card_peak"] for job in self.jobs),
            "start": {name: ready[name] for name in ("load_s", "warm_up_s") if name in ready},
            "made_again": sum("fallback" in job.metadata for job in self.jobs),
            "troubles": Counter(event["event"] for event in self.events if event["level"] not in QUIET),
        }


def measure(kind: str, queue: Queue, volume: Mapping[str, str], log: Path) -> Run:
    """One worker's life, from its start to the last accepted callback. `volume`: the worker's environment beside the
    services'. What it logs goes to `log`. Raises `RuntimeError` where it ends, or a job fails."""
    with LocalStack() as stack, tempfile.TemporaryDirectory() as folder:
        stack.double_faults.add("latency", path="/storage/v1/object/*", seconds=queue.latency)
        ids = [_submit(stack, queue, job_type, n) for n, job_type in enumerate(_in_turn(queue))]
        env = worker_environment(len(KINDS)) | stack.env | volume | {"LOG_FORMAT": "json"}
        with worker([f"{kind}_worker.py"], Path(folder), env, log) as process, _looked_at(process.pid) as looks:
            metadata = _wait(stack, ids, process)
        heard = {seen.job_id: seen.at for seen in reversed(stack.double.callbacks()) if seen.status == "completed"}
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    claimed, made = (_times(events, name) for name in ("claimed", "made"))
    jobs = [Job(claimed[each], made[each], heard[each], metadata[each]) for each in ids]
    return Run(sorted(jobs, key=lambda job: job.made), looks, events)


def volume(kind: str, folder: Path, queue: Queue, device: str) -> dict[str, str]:
    """Weights of the true sizes where there is a card, else a small volume, each written where `folder` has none; the
    enhancer's of the true size only where it has something to do. As the worker's environment."""
    if device == "cpu":
        write_volume(folder / "small")
        return {"MODEL_ROOT": str(folder / "small"), "DEVICE": device}
    from bench import checkpoints
    from workers.card import gpu

    enhances = any(load_presets()[job_type].enhance for job_type in queue.types)
    places = {"MODEL_ROOT": checkpoints.ready(kind, folder, device, small=False)}
    if KINDS[kind].enhancer is not None:
        places["HF_HOME"] = checkpoints.ready("qwen", folder, device, small=not enhances)
    gpu.empty()
    return {name: str(place) for name, place in places.items()} | {"DEVICE": device}


def table(kind: str, queue: Queue, run: Run) -> list[str]:
    facts = run.facts()
    head = f"{kind}: {queue.jobs} jobs of {', '.join(queue.types)}, every object {queue.latency} s late"
    rows = ("| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in facts.items()))
    return [head, *rows, f"{run.overlap}", json.dumps({kind: facts})]


def _in_turn(queue: Queue) -> Iterable[str]:
    return islice(cycle(queue.types), queue.jobs)


def _submit(stack: LocalStack, queue: Queue, job_type: str, number: int) -> str:
    """No two prompts are equal: texts are remembered."""
    preset = load_presets()[job_type]
    few = {"num_inference_steps": queue.steps} if queue.steps and preset.media == "video" else {}
    many = {"num_images": preset.outputs[-1]} if len(preset.outputs) > 1 else {}
    return stack.submit(job_type, f"a red bicycle beside house number {number + 1}", **few, **many)


def _wait(stack: LocalStack, ids: Sequence[str], process: subprocess.Popen[bytes]) -> dict[str, Mapping[str, Any]]:
    """Metadata by job. Raises `RuntimeError`."""
    deadline = time.monotonic() + LIMIT
    while (jobs := [stack.job(each) for each in ids]) and not all(job["status"] in TERMINAL for job in jobs):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"not all jobs ended; the worker's exit code is {process.returncode}")
        time.sleep(LOOK_EVERY)
    if failed := [job["error_message"] for job in jobs if job["status"] != "completed"]:
        raise RuntimeError(f"{len(failed)} jobs failed: {failed[0]}")
    return {job["id"]: job["metadata"] for job in jobs}


@contextmanager
def _looked_at(pid: int) -> Iterator[list[Look]]:
    """The card and this process meanwhile."""
    looks, over, card = [], threading.Event(), Card()

    def look() -> None:
        while not over.wait(LOOK_EVERY):
            seen = card.read()
            busy, used = (None, None) if seen is None else (seen.utilization, seen.used)
            looks.append(Look(time.time(), busy, used, _memory(pid)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join()


def _memory(pid: int) -> int:
    """Bytes that no file backs; 0 of a process that is gone."""
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _times(events: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    """Of each job the last event of this name."""
    return {e["job"]: datetime.fromisoformat(e["timestamp"]).timestamp() for e in events if e["event"] == name}


def _medians(jobs: Sequence[Job], phases: Iterable[str]) -> dict[str, float]:
    seconds = {phase: statistics.median(job.seconds([phase]) for job in jobs) for phase in phases}
    return {phase: round(median, 3) for phase, median in seconds.items() if median}


def _most(sizes: Iterable[int]) -> float:
    return round(max(sizes, default=0) / 1e9, 2)


def _cell(value: Any) -> str:
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, Mapping) else str(value)
