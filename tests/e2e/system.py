"""One process of ours as an operator starts it, with the variables it is given and no others, watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from support import wait_until

from workers.supervision import heartbeat
from workers.supervision.heartbeat import Heartbeat

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = Path(__file__).with_name("offline")
FAKE = str(ROOT / "tests" / "children" / "fake_worker.py")
MAKING = ("denoise", "decode")
OURS = ("PATH", "HOME", "TMPDIR", "LANG")


class System:
    """`arguments` are a script of ours and its own. Everything it leaves is below `folder`; no network is there."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str]) -> None:
        self.folder, self.notes, self.log = folder, folder / "offline", folder / "log"
        (folder / "run").mkdir()
        kept = {name: os.environ[name] for name in OURS if name in os.environ}
        places = {"OURVIDZ_RUN_DIR": str(folder / "run"), "OFFLINE_NOTES": str(self.notes)}
        places |= {"OPS_ADDRESS": "127.0.0.1:0", "OPS_DIR": str(folder / "ops")}
        self.env = {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{OFFLINE}:{ROOT}", **places, **env}
        self.command = [sys.executable, *arguments]

    def __enter__(self) -> System:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, env=self.env, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(60)

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def events(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        """What it said under this name, with these fields."""
        finished, _, _ = self.output.rpartition("\n")
        return [
            event
            for event in map(json.loads, finished.splitlines())
            if event["event"] == name and fields.items() <= event.items()
        ]

    def beat(self, kind: str) -> Heartbeat | None:
        return heartbeat.read(self.folder / "run" / f"{kind}.heartbeat")

    def wait_for_work(self, kind: str, job_id: str, step: int = 0, limit: float = 240.0) -> Heartbeat:
        """Return when the worker says that it is in the midst of making this job; it says so about once a second."""

        def at_work() -> bool:
            beat = self.beat(kind)
            return beat is not None and beat.job == job_id and beat.phase in MAKING and beat.step >= step

        wait_until(at_work, limit)
        beat = self.beat(kind)
        assert beat is not None
        return beat

    def ask_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def insist(self) -> None:
        """Ask again and again until it ends, since signals of one kind merge when they come at once."""
        wait_until(lambda: self.process.poll() is not None or self.ask_to_stop())

    def ends(self, limit: float = 240.0) -> int:
        return self.process.wait(limit)

    def traces(self) -> str:
        """All text that it left behind: output, files of its own, and how its processes were called."""
        files = [path for path in (self.folder / "run").iterdir() if path.is_file()]
        return "\n".join([self.output, *(path.read_text() for path in files), *self._command_lines()])

    def _command_lines(self) -> list[str]:
        pids = [str(self.process.pid), *(str(beat.pid) for beat in map(self.beat, ("sdxl", "wan")) if beat)]
        files = [Path("/proc", pid, "cmdline") for pid in pids]
        return [file.read_text() for file in files if file.exists()]
