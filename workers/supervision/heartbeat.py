"""What a worker says about itself, in a small file in memory that its supervisor reads.

All times are on the monotonic clock, which the processes of one machine share.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from workers import records

RUN_DIR = "OURVIDZ_RUN_DIR"
GENERATION = "OURVIDZ_GENERATION"
SUPERVISOR = "OURVIDZ_SUPERVISOR"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One sign of life.

    `generation` counts the starts of this worker under one supervisor. `deadline` is when the present phase counts as
    hung unless its marker moves. `tokens` are the claims held. `step` of `total` is the progress of the phase, `done`
    and `failed` count the jobs of this process, `commands` those sent to redis today. `waiting`, `oldest` (epoch) and
    `paused` describe the queue as it was `seen` last. `left` are the seconds to the end of the job, where that can be
    told. `busy` are the seconds for which this process had the card; `vram` (on the card) and `memory` are in bytes.
    """

    generation: int
    pid: int
    phase: str
    deadline: float
    monotonic: float
    job: str | None = None
    type: str | None = None
    tokens: tuple[str, ...] = ()
    step: int = 0
    total: int = 0
    vram: int = 0
    done: int = 0
    failed: int = 0
    commands: int = 0
    waiting: int | None = None
    oldest: float | None = None
    paused: bool = False
    seen: float | None = None
    left: float | None = None
    busy: float = 0.0
    memory: int = 0
    model: str = ""

    @property
    def percent(self) -> int | None:
        return 100 * self.step // self.total if self.total else None

    def age(self) -> float:
        """Seconds since it was written."""
        return time.monotonic() - self.monotonic


def generation() -> int:
    """The number our supervisor gave this process, 0 without one."""
    return int(os.environ.get(GENERATION, "0"))


def supervisor() -> int | None:
    """The pid of our supervisor, None for a process that runs alone."""
    pid = os.environ.get(SUPERVISOR)
    return int(pid) if pid else None


def run_dir() -> Path:
    """The folder of heartbeat and lock files, in memory where the machine allows. PermissionError if not ours."""
    chosen = os.environ.get(RUN_DIR)
    memory = Path("/dev/shm")  # noqa: S108 - tmpfs is the point; the owner is checked below
    parent = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    folder = Path(chosen) if chosen else parent / f"ourvidz-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; set {RUN_DIR} to a folder of your own")
    return folder


def path_of(name: str) -> Path:
    return run_dir() / f"{name}.heartbeat"


def write(path: Path, heartbeat: Heartbeat) -> None:
    records.write(path, asdict(heartbeat))


def read(path: Path) -> Heartbeat | None:
    """The last heartbeat, None when there is none or it is from another version."""
    try:
        values = records.known(Heartbeat, json.loads(path.read_text()))
        return Heartbeat(**{**values, "tokens": tuple(values.get("tokens", ()))})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
