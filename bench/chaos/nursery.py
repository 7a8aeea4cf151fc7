"""Worker processes by the hundred: one small process that has imported everything forks each of them.

`Nursery` is the side that asks, the module run as a program is the side that forks. Both speak lines of JSON. A child
is what `bench.chaos.child` makes of its order, or else a `program` that the order names.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from workers.local.tether import die_with
from workers.supervision import heartbeat
from workers.supervision.heartbeat import Heartbeat

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 120.0
MODULES = (
    "workers.boot",
    "workers.media",
    "workers.testing.fakes",
    "bench.chaos.child",
    "numpy.ma",
    "PIL.PngImagePlugin",
    "av",
    "cryptography.fernet",
    "imagehash",
    "scipy.fftpack",
)


class Child:
    """A forked worker. `code` is None while it lives, afterwards its exit code or minus the signal that killed it."""

    def __init__(self, pid: int, kind: str, log: Path, changed: threading.Condition) -> None:
        self.pid, self.kind, self.log = pid, kind, log
        self.code: int | None = None
        self._changed = changed

    def join(self, limit: float) -> int:
        """Wait for its end. Raises `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.code is not None, limit):
                raise TimeoutError(f"process {self.pid} is still alive after {limit:.0f} s; its log is {self.log}")
        assert self.code is not None
        return self.code

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has just died, and nobody has heard of it yet
            if self.code is None:
                os.kill(self.pid, number)

    @property
    def beat(self) -> Heartbeat | None:
        """Its last sign of life, from the folder in which its log is."""
        return heartbeat.read(self.log.parent / f"{self.kind}.heartbeat")

    def is_ready(self) -> bool:
        """Whether it asks for jobs."""
        beat = self.beat
        return beat is not None and beat.phase == "idle"

    def is_stopped(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class Nursery:
    """Starts children for any number of threads. All of them die with it."""

    def __enter__(self) -> Nursery:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid())],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._changed = threading.Condition()
        self._asking = threading.Lock()
        self._children: dict[int, Child] = {}
        self._born: int | None = None
        self._listener = threading.Thread(target=self._listen, name="nursery", daemon=True)
        self._listener.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._listener.join()
        self._process.__exit__(kind, error, at)

    def start(self, order: Mapping[str, Any]) -> Child:
        """Fork a child that does what the order says; its output goes to the order's `log`."""
        assert self._process.stdin is not None
        with self._asking, self._changed:
            self._born = None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            if not self._changed.wait_for(lambda: self._born, START_LIMIT):
                raise TimeoutError("the nursery does not answer")
            assert self._born is not None
            child = Child(self._born, order["kind"], Path(order["log"]), self._changed)
            self._children[child.pid] = child
            return child

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            with self._changed:
                if "code" in said:
                    self._changed.wait_for(lambda pid=said["pid"]: pid in self._children)
                    self._children.pop(said["pid"]).code = said["code"]
                else:
                    self._born = said["pid"]
                self._changed.notify_all()


class _Forker:
    """The side that forks: one thread, which reads orders and collects the dead."""

    def __init__(self) -> None:
        self._pids: dict[int, int] = {}
        self._read = b""

    def run(self) -> None:
        while True:
            ready, _, _ = select.select([0, *self._pids], [], [])
            for descriptor in ready:
                if descriptor:
                    self._collect(descriptor)
                elif not self._take_orders():
                    return

    def _take_orders(self) -> bool:
        """False when nobody will ask any more."""
        more = os.read(0, 65536)
        *orders, self._read = (self._read + more).split(b"\n")
        for order in orders:
            self._fork(json.loads(order))
        return bool(more)

    def _fork(self, order: Mapping[str, Any]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            _live(order, parent, self._pids)
        self._pids[os.pidfd_open(pid)] = pid
        _say(pid=pid)

    def _collect(self, descriptor: int) -> None:
        os.close(descriptor)
        pid = self._pids.pop(descriptor)
        _say(pid=pid, code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _live(order: Mapping[str, Any], parent: int, inherited: Mapping[int, int]) -> NoReturn:
    die_with(parent, signal.SIGKILL)
    for descriptor in inherited:
        os.close(descriptor)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(file, standard)
    if "program" in order:
        _run(order["program"], order["environment"])
    from bench.chaos.child import main

    main(order)


def _run(program: str, environment: Mapping[str, str]) -> NoReturn:
    """A script as if it had been started: with this environment and no other."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, code = [program], 1
    sys.path.insert(0, str(Path(program).parent))
    try:
        runpy.run_path(program, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def _say(**fields: int) -> None:
    os.write(1, json.dumps(fields).encode() + b"\n")


def _main() -> None:
    """What every child would load for itself is here before the first: that is most of what a short life costs."""
    import gc
    import importlib

    die_with(int(sys.argv[1]), signal.SIGKILL)
    for module in MODULES:
        importlib.import_module(module)
    importlib.import_module("workers.safety.lexicon").load_lexicon()
    importlib.import_module("workers.trust").trusted()
    gc.freeze()
    _Forker().run()


if __name__ == "__main__":
    _main()
