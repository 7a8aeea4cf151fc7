"""A worker without a GPU: `worker.py NAME BEHAVIOUR`, behaviours below. It writes its life into JOURNAL."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from workers.stop import Stop
from workers.supervision import heartbeat
from workers.supervision.heartbeat import Heartbeat

NAME, BEHAVIOUR = sys.argv[1:3]
JOURNAL = Path(os.environ["JOURNAL"])


def note(what: str, pid: int | None = None) -> None:
    with JOURNAL.open("a") as journal:
        journal.write(f"{NAME} {what} {pid or os.getpid()}\n")


def beat(phase: str = "idle", limit: float = 60.0, done: int = 0) -> None:
    now = time.monotonic()
    signs = Heartbeat(
        heartbeat.generation(), os.getpid(), phase, now + limit, now, tokens=(f"{NAME}-claim",), done=done
    )
    heartbeat.write(heartbeat.path_of(NAME), signs)


def obedient(phase: str = "idle", limit: float = 60.0) -> int:
    stop = Stop(parent=heartbeat.supervisor()).install()
    note("ready")
    while not stop.requested:
        beat(phase, limit, done=1)
        stop.sleep(0.05)
    note("drained")
    stop.ignore()
    return 0


def twice() -> int:
    """Drains for ever; only the second signal ends it."""
    stop = Stop().install()
    beat()
    note("ready")
    stop.sleep(60)
    note("draining")
    while not stop.sleep(60, beyond=1):
        pass
    note("released")
    stop.ignore()
    return 0


def deaf(phase: str = "idle", limit: float = 60.0) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    beat(phase, limit)
    note("ready")
    time.sleep(60)
    return 0


def silent() -> int:
    note("ready")
    time.sleep(60)
    return 0


def with_offspring() -> int:
    """Leaves a process behind in its group when it crashes."""
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    note("offspring", left.pid)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def recycled() -> int:
    """Ends by itself after a job, as a worker does that has grown too big."""
    beat(done=1)
    note("ready")
    return 0


def leaky() -> int:
    note("key" if "RUNPOD_API_KEY" in os.environ else "clean")
    return obedient()


BEHAVIOURS = {
    "obedient": obedient,
    "loading": lambda: obedient("load", 300.0),
    "twice": twice,
    "deaf": deaf,
    "hangs": lambda: deaf("denoise", 0.2),
    "silent": silent,
    "with_offspring": with_offspring,
    "recycled": recycled,
    "leaky": leaky,
}


def main() -> int:
    alone = os.open(JOURNAL.with_suffix(f".{NAME}"), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("SECOND COPY")
    note("started")
    return BEHAVIOURS[BEHAVIOUR]() if BEHAVIOUR in BEHAVIOURS else int(BEHAVIOUR)


sys.exit(main())
