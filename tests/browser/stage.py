"""The operators' server as the supervisor opens it, over a real queue, with workers that are whatever a test says."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.kinds import KINDS, open_queue
from workers.local.stack import LocalStack
from workers.ops.history import Ring
from workers.ops.room import ADDRESS, count_here, open_room
from workers.settings import Settings, load_settings
from workers.supervision.heartbeat import RUN_DIR, Heartbeat
from workers.supervision.keeper import View
from workers.supervision.ledger import FOLDER, Entry, File, writer
from workers.supervision.slot import State

MINUTE = 60
USER = "11111111-1111-4111-8111-111111111111"
TIMINGS = {"wait": 12.0, "encode_text": 0.2, "denoise": 2.4, "decode": 0.6, "upload": 0.3, "callback": 0.1}
TICK = 0.3


class Stage:
    """`workers` are kind -> what differs from a worker that waits for jobs; a heartbeat's fields are in `beat`."""

    def __init__(self, folder: Path, stack: LocalStack) -> None:
        self.folder, self.stack = folder, stack
        self.workers: dict[str, dict[str, Any]] = {}
        self.settings: Settings = load_settings()
        self.queues = {kind: open_queue(kind, self.settings) for kind in KINDS}
        self.minute = int(time.time()) // MINUTE * MINUTE
        self._note = writer(folder / FOLDER, "stage")
        self._done = threading.Event()

    @property
    def address(self) -> str:
        return f"http://{(self.folder / ADDRESS).read_text()}"

    def open(self) -> None:
        count_here(self.folder, list(KINDS))
        self._room = open_room(self.settings, self.folder, self.queues)
        self._showing = threading.Thread(target=self._show)
        self._showing.start()

    def close(self) -> None:
        self._done.set()
        self._showing.join()
        self._room.close()
        for queue in self.queues.values():
            queue.close()

    def reset(self) -> None:
        self.stack.reset()
        self.workers.clear()

    def worker(self, kind: str, state: State = State.RUNNING, retry_in: float | None = None, **beat: Any) -> None:
        self.workers[kind] = {"state": state, "retry_in": retry_in, "beat": beat}

    def end(self, job_type: str = "image_fast", status: str = "completed", **fields: Any) -> str:
        """A job has ended, as a worker writes it down. Its id is returned."""
        job_id = str(fields.pop("job", uuid.uuid4()))
        given = {"timings": TIMINGS, "facts": {"width": 480, "height": 832, "steps": 25}, "files": ()}
        self._note(Entry(job_id, job_type, status, time.time(), 1, **{**given, **fields}))
        return job_id

    def file(self, job_id: str, name: str, content: bytes, content_type: str, bucket: str = "image_fast") -> File:
        """An object in storage, delivered for a job."""
        path = f"{USER}/{job_id}/{name}"
        place = f"/storage/v1/object/{bucket}/{path}"
        self.stack._http.post(place, content=content, headers={"Content-Type": content_type}).raise_for_status()
        return File(bucket, path, content_type, len(content))

    def bury(self, reason: str = "It failed three times.", kind: str = "wan") -> str:
        """A job on the dead list. Its id is returned."""
        job_id, token = str(uuid.uuid4()), str(uuid.uuid4())
        queue = self.queues[kind]
        queue.push(json.dumps({"id": job_id, "type": "image_fast", "prompt": "a red bicycle", "user_id": USER}))
        assert queue.claim(token).claim
        assert queue.bury(token, reason, job_id)
        return job_id

    def _show(self) -> None:
        while not self._done.wait(TICK):
            self._room.show([self._view(kind, self.workers.get(kind, {})) for kind in KINDS])

    def _view(self, kind: str, told: Mapping[str, Any]) -> View:
        state, now = told.get("state", State.RUNNING), time.monotonic()
        lives = state in (State.RUNNING, State.STARTING, State.DRAINING)
        given = {"phase": "idle", "monotonic": now, "model": f"tiny_{kind}", "waiting": 0, "seen": now}
        beat = Heartbeat(generation=1, pid=7, deadline=now + 60, **{**given, **told.get("beat", {})})
        loaded = state is State.RUNNING
        return View(kind, state, 7 if lives else None, loaded, 60.0 if lives else None, told.get("retry_in"), 0, False,
                    beat if lives else None)  # fmt: skip


def rows_of_a_day(folder: Path, until: int) -> None:
    """A history as a machine writes it that made a picture every minute, and lost one every ten."""
    ring = Ring(folder)
    for i in range(24 * 60):
        ring.write(
            {
                "t": until - i * MINUTE,
                "seconds": 60.0,
                "queues": {"sdxl": [i % 3, 2.0], "wan": [i % 7, 9.0]},
                "busy": {"sdxl": 10.0, "wan": 30.0},
                "idle": 0.3,
                "commands": 9,
                "ready": 2,
                "failed": 0.5 * (i % 10 == 0),
                "jobs": {"image_fast": [1.0, float(i % 10 == 0), 4.0, 2.0, 20.0]},
            }
        )
    ring.close()


@contextmanager
def staged(folder: Path, stack: LocalStack, **settings: str) -> Iterator[Stage]:
    """A stage with a day behind it. `settings` are variables in lower case."""
    given = {
        "MODEL_ROOT": str(folder / "models"),
        "OPS_DIR": str(folder / "ops"),
        "OPS_ADDRESS": "127.0.0.1:0",
        "OPS_SUBMIT": "true",
        "OPS_PICTURES": "true",
        "POD_PRICE": "0.80",
        RUN_DIR: str(folder),
        **stack.env,
        **{name.upper(): value for name, value in settings.items()},
    }
    with variables(given):
        stage = Stage(folder, stack)
        rows_of_a_day(stage.settings.ops_folder / f"{stage.settings.worker_name}.ring", stage.minute - MINUTE)
        stage.open()
    try:
        yield stage
    finally:
        stage.close()


@contextmanager
def variables(given: Mapping[str, str]) -> Iterator[None]:
    """The environment while a stage is opened; what other tests start does not see it."""
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
