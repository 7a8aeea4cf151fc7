"""A pod of real processes around the local stack: the orchestrator with its worker, or a worker alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.chaos.nursery import Child, Nursery
from tests.support import post, wait_until
from workers.local.stack import LocalStack
from workers.supervision import heartbeat

ROOT = Path(__file__).resolve().parent.parent
START = 60.0


class Forked:
    """A child of the nursery, seen as `subprocess` shows processes."""

    def __init__(self, child: Child) -> None:
        self._child, self.pid, self.send_signal = child, child.pid, child.send

    @property
    def returncode(self) -> int | None:
        return self._child.code

    def poll(self) -> int | None:
        return self._child.code

    def kill(self) -> None:
        self._child.send(signal.SIGKILL)

    def wait(self, timeout: float = START) -> int:
        try:
            return self._child.join(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(self._child.kind, timeout) from None


class Pod:
    """One life of a pod's main process; a second one in the same folder shares volume and run folder.

    It is forked from the nursery where there is one. `settings` are environment variables, in lower case for the sake
    of Python.
    """

    def __init__(
        self,
        folder: Path,
        stack: LocalStack,
        program: str = "wan_worker",
        *,
        nursery: Nursery | None = None,
        **settings: object,
    ) -> None:
        self.folder, self.stack = folder, stack
        self.outbox, self.run_dir = folder / "outbox", folder / "run"
        self.made = folder / "made"
        self.output = folder / f"output-{time.monotonic_ns()}"
        ours = {
            "MODEL_ROOT": folder / "models",
            "OUTBOX_DIR": self.outbox,
            heartbeat.RUN_DIR: self.run_dir,
            "PYTHONPATH": ROOT,
            "EVIL_MADE": self.made,
            "DEVICE": "cpu",
            "WAKE_UPS": "false",
            "WATERMARK": "false",
            "OPS_ADDRESS": "127.0.0.1:0",
            "OPS_DIR": folder / "ops",
        }
        given = {name.upper(): value for name, value in settings.items()}
        self.environment = os.environ | stack.env | {name: str(value) for name, value in (ours | given).items()}
        self.process = self._start(str(ROOT / f"tests/evil/{program}.py"), nursery)

    def _start(self, program: str, nursery: Nursery | None) -> Forked | subprocess.Popen[bytes]:
        self.output.touch()
        if nursery is not None:
            facts = {"program": program, "kind": "wan", "log": str(self.output)}
            return Forked(nursery.start({**facts, "environment": self.environment}))
        with self.output.open("wb") as output:
            return subprocess.Popen([sys.executable, program], env=self.environment, stdout=output, stderr=output)

    def text(self) -> str:
        return self.output.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        finished, _, _ = self.text().rpartition("\n")
        lines = [json.loads(line) for line in finished.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def wait_for(self, name: str, times: int = 1, limit: float = START) -> dict[str, Any]:
        self.wait_until(lambda: len(self.events(name)) >= times, limit)
        return self.events(name)[-1]

    def wait_until(self, holds: Callable[[], object], limit: float = START) -> None:
        try:
            wait_until(holds, limit)
        except AssertionError:
            raise AssertionError(self.text()) from None

    def beat(self) -> heartbeat.Heartbeat | None:
        return heartbeat.read(self.run_dir / "wan.heartbeat")

    def generations(self) -> int:
        """How many jobs reached an engine, over all lives."""
        return len(self.made.read_text().splitlines()) if self.made.exists() else 0

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM, limit: float = START) -> int:
        self.send(number)
        return self.process.wait(limit)

    def insist(self) -> int:
        """Ask to stop again and again until it ends, since signals of one kind merge when they come at once."""
        self.wait_until(lambda: self.process.poll() is not None or self.send(signal.SIGTERM))
        return self.process.wait()

    def clean_up(self) -> None:
        """Nothing of this life is left, whatever the test came to."""
        beat = self.beat()
        self.process.kill()
        self.process.wait()
        if beat is not None and beat.generation:
            _kill_group(beat.pid)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Starts processes that have everything imported already."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def pod(tmp_path: Path, stack: LocalStack, nursery: Nursery) -> Iterator[Callable[..., Pod]]:
    """Starts pods in one folder: `pod(program, **settings)`. Nothing of them outlives the test."""
    pods: list[Pod] = []

    def start(program: str = "wan_worker", **settings: object) -> Pod:
        pods.append(Pod(tmp_path, stack, program, **({"nursery": nursery} | settings)))
        return pods[-1]

    yield start
    for each in pods:
        each.clean_up()


def ask(stack: LocalStack, *command: object) -> Any:
    """One command to the stack's redis."""
    headers = {"Authorization": f"Bearer {stack.env['UPSTASH_REDIS_REST_TOKEN']}"}
    return post(stack.gateway.url, headers=headers, json=list(command)).raise_for_status().json()["result"]


def end_leases(stack: LocalStack, queue: str = "wan_queue") -> None:
    """What the end of their time does to all claims: whoever held them is dead."""
    for token in ask(stack, "HKEYS", f"{queue}:inflight"):
        ask(stack, "DEL", f"{queue}:lock:{token}")


def _kill_group(pid: int) -> None:
    """A worker leads a group of its own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
