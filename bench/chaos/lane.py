"""One local stack with the worker processes of one trial after another."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import valkey

from bench.chaos.history import TERMINAL, History, Hold, Word, Write
from bench.chaos.nursery import ROOT, Child, Nursery
from workers.crash import VARIABLE
from workers.delivery.outbox import Outbox
from workers.local.redis import RedisServer
from workers.local.stack import LocalStack
from workers.local.supabase.job_callback import Callback
from workers.local.supabase.storage import Put

KINDS = ("sdxl", "wan")
TYPES = {"sdxl": "sdxl_image_fast", "wan": "image_fast"}
LEASE = 1.0
SCALE = 1 / 16
UNHURRIED = 60.0
"""A lease that a process keeps on the slowest machine."""

LIMIT = 300.0
PAUSE = 0.02
MEASURED = ("timings", "idle_share", "memory", "enhancement_details")
LASTING = frozenset({"queue:schema", *(f"{kind}_queue:{part}" for kind in KINDS for part in ("fence", "dead"))})
"""The only keys that stay for ever; the dead list is bounded."""


class Lane:
    """`redis` is used as it is, already started; without one the lane has its own, which forgets at a kill."""

    def __init__(self, nursery: Nursery, redis: RedisServer | None = None) -> None:
        self._nursery = nursery
        self.stack = LocalStack(redis=redis)
        self._numbers = itertools.count(1)
        self._children: list[Child] = []
        self._withdrawn: set[str] = set()
        self.acknowledged: list[str] = []

    def __enter__(self) -> Lane:
        self.stack.__enter__()
        self._redis = valkey.Valkey(port=self.stack.redis.port, decode_responses=True)
        self._folder = tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        scales = "\n".join(f"{kind} = {SCALE}" for kind in KINDS)
        (self.folder / "manifest.toml").write_text(f"[scale]\n{scales}\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.clear()
        self._redis.close()
        self.stack.__exit__(kind, error, at)
        self._folder.cleanup()

    def clear(self) -> None:
        """As new: no processes, jobs, files or faults."""
        for child in self._children:
            child.send(signal.SIGKILL)
            child.join(LIMIT)
        self.stack.reset()
        for left in ("outbox", "elsewhere", "runs"):
            shutil.rmtree(self.folder / left, ignore_errors=True)
        self._children.clear()
        self.acknowledged.clear()

    def submit(self, kind: str, prompt: str, job_type: str = "", **config: Any) -> str:
        """Queue a job and note that this was acknowledged. Raises what the stack raises when it was not."""
        job = self.stack.submit(job_type or TYPES[kind], prompt, **config)
        self.acknowledged.append(job)
        return job

    def start(
        self,
        kind: str,
        *,
        crash_at: str = "",
        volume: str = "outbox",
        lease: float = LEASE,
        drain: float = 25,
        **order: Any,
    ) -> Child:
        """A worker process. Those of one `volume` share an outbox; `bench.chaos.child` says what else it is told."""
        name = f"{kind}-{next(self._numbers)}"
        runs = self.folder / "runs" / name
        runs.mkdir(parents=True)
        environment = {
            **self.stack.env,
            "LEASE_SECONDS": str(lease),
            "DRAIN_SECONDS": str(drain),
            "MODEL_ROOT": str(self.folder),
            "OUTBOX_DIR": str(self.folder / volume),
            "AUDIT_DIR": str(
                runs / "audit"
            ),  # a frozen process may hold its chain, and two of one name never live at once
            "OURVIDZ_RUN_DIR": str(runs),
            "DEVICE": "cpu",
            "LOG_FORMAT": "json",
            "WATERMARK": "false",
            "PYTHONPATH": str(ROOT),
        }
        if crash_at:
            environment[VARIABLE] = crash_at
        child = self._nursery.start(
            {"kind": kind, "name": name, "log": str(runs / "log"), "environment": environment, **order}
        )
        self._children.append(child)
        return child

    def is_settled(self) -> bool:
        """Every row has come to an end, and nothing waits or is in flight."""
        return self.is_empty() and all(self.stack.job(job)["status"] in TERMINAL for job in self.acknowledged)

    def is_empty(self) -> bool:
        return self.depth() == 0

    def depth(self) -> int:
        """How many jobs wait or are in flight. Raises `ConnectionError` while redis is away."""
        asked = self._redis.pipeline(transaction=False)
        for queue in (f"{kind}_queue" for kind in KINDS):
            asked.llen(queue).llen(f"{queue}:retry").hlen(f"{queue}:inflight")
        return sum(asked.execute())

    def wait_until(self, holds: Callable[[], object], what: str, limit: float = LIMIT) -> float:
        """When it held, as epoch in seconds. Raises `TimeoutError`."""
        deadline = time.monotonic() + limit
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not {what} after {limit:.0f} s; the logs are in {self.folder}")
            time.sleep(PAUSE)
        return time.time()

    def end_leases(self) -> None:
        """What a supervisor does that saw its worker die."""
        for queue in (f"{kind}_queue" for kind in KINDS):
            for token in self._redis.hkeys(f"{queue}:inflight"):
                self._redis.delete(f"{queue}:lock:{token}")

    def leftovers(self) -> list[str]:
        """Keys that would stay for ever, once nothing is waiting."""
        keys = [key for key in self._redis.scan_iter() if self._redis.pttl(key) == -1]
        return sorted(set(keys) - LASTING)

    def files(self, volume: str) -> list[str]:
        """Jobs whose files are still in an outbox."""
        return Outbox(self.folder / volume).jobs()

    def history(self, *, anew: bool = False) -> History:
        """With `anew`, jobs may have been made again after they ended: what was measured of it is no effect."""
        rows = {row["id"]: row["status"] for row in self.stack.jobs()}
        return History(
            acknowledged=frozenset(self.acknowledged),
            known=frozenset(rows),
            words=tuple(_word(callback, anew=anew) for callback in self.stack.double.callbacks()),
            writes=tuple(_write(put) for put in self.stack.double.puts()),
            holds=tuple(sorted(self._holds(), key=lambda hold: hold.at)),
            rows=rows,
            unseen=frozenset(self._unseen()),
        )

    def _unseen(self) -> Iterator[str]:
        """Jobs whose image or video is not shown."""
        for table in ("images", "videos"):
            for row in self.stack.double.rows(table):
                if row["status"] != "completed":
                    yield row["job_id"]

    def _holds(self) -> Iterator[Hold]:
        for log in self.folder.glob("runs/*/log"):
            for said in events(log):
                if said["event"] == "holds" and said["job"]:
                    yield Hold(said["job"], said["fence"], said["sender"], said["at"])


def events(log: Path) -> Iterator[Mapping[str, Any]]:
    """What a worker said, as far as it could finish its sentences."""
    for line in log.read_text().splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, Mapping) and "event" in said:
            yield said


def _word(callback: Callback, *, anew: bool) -> Word:
    metadata = dict(callback.body.get("metadata") or {})
    fence = metadata.pop("fence", None)
    for measured in ("attempt", *MEASURED) if anew else ("attempt",):
        metadata.pop(measured, None)
    effect = json.dumps({**callback.body, "metadata": metadata}, sort_keys=True)
    return Word(
        job=callback.job_id,
        status=callback.status,
        at=callback.at,
        sender=callback.headers.get("user-agent", ""),
        fence=fence,
        effect=hashlib.sha256(effect.encode()).hexdigest(),
        paths=tuple(callback.body.get("assets") or ()),
        accepted=callback.answer == 200,
    )


def _write(put: Put) -> Write:
    return Write(put.path.split("/")[1], put.path, put.etag, put.at, put.sender)
