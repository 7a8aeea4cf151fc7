"""One worker process: alone in its session, ended by its parent's death, and never two of a slot at a time."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.supervision import heartbeat

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)  # loaded before any fork: afterwards only the call itself is safe


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one worker: what to run, and with which environment."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]


class Child:
    """A started worker, leader of a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def send(self, number: signal.Signals) -> None:
        send_group(self.pid, number)

    def ended(self) -> int | None:
        """Collect the child if it is dead: its exit code, or minus the signal that killed it. Never waits."""
        if self._process.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self.send(signal.SIGKILL)  # what it left behind, while its zombie still owns the group's number
        return self._process.wait()


def spawn(slot: Slot, *, generation: int, run_dir: Path, lock: int | None = None) -> Child:
    """Start the slot's worker, which inherits the lock and so holds it for as long as it lives.

    Main thread only: the kernel reports the death of the *thread* that forked. Raises OSError.
    """
    assert threading.current_thread() is threading.main_thread()
    ours = {
        heartbeat.RUN_DIR: str(run_dir),
        heartbeat.GENERATION: str(generation),
        heartbeat.SUPERVISOR: str(os.getpid()),
    }
    kept = {name: value for name, value in slot.env.items() if name != "RUNPOD_API_KEY"}
    return Child(
        subprocess.Popen(  # noqa: S603 - the command comes from our own table of worker kinds
            slot.argv,
            env=kept | ours,
            stdin=subprocess.DEVNULL,
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )
    )


def send_group(leader: int, number: signal.Signals) -> None:
    """Signal a worker and everything it started; nothing happens when they are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def take_lock(path: Path) -> int | None:
    """The slot's lock as an open file, None while a worker or supervisor of another life holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def is_orphaned(path: Path) -> bool:
    """Whether the supervisor that took this lock is dead, so that only its worker can still hold it."""
    owner = path.read_text()
    return owner.isdecimal() and not _is_alive(int(owner))


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # dead, though nobody has collected it


def _die_with(parent: int) -> Callable[[], None]:
    def in_the_child() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(0)

    return in_the_child
