"""Programs under Deno, which comes as a wheel; what Lite imports lies in a cache beside the installed packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import httpx

from workers.local import tether
from workers.local.redis import free_port

START_LIMIT = 60.0
"""Seconds until a program that does not answer counts as failed."""

LITE = Path(__file__).with_name("lite.ts")
CACHE = Path(sys.prefix) / "deno"
HOW = "install requirements-edge.txt, then run `python -m workers.local.edge`"


class Program:
    """One TypeScript file being served on a loopback port, which dies with the thread that started it."""

    def __init__(self, file: Path, env: Mapping[str, str], flags: Sequence[str], log: IO[bytes]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._name = file.parent.name
        own = {"DENO_SERVE_ADDRESS": f"tcp:127.0.0.1:{self.port}", "DENO_DIR": str(CACHE), "NO_COLOR": "1"}
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
        command = [str(deno()), "run", "--no-prompt", "--cached-only", *flags, str(file)]
        self._process = subprocess.Popen(  # noqa: S603  our own argument list, no shell
            [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *command],
            env={**kept, **own, **env, "DO_NOT_TRACK": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def wait(self) -> None:
        """Return when it answers, whatever it answers."""
        deadline = time.monotonic() + START_LIMIT
        while not _answers(self.url):
            if self._process.poll() is not None:
                raise ChildProcessError(f"{self._name} ended at its start with code {self._process.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._name} did not answer within {START_LIMIT:.0f} s")
            time.sleep(0.02)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def deno() -> Path:
    """Raises `FileNotFoundError` with how to get it."""
    beside = Path(sys.executable).with_name("deno")
    found = str(beside) if beside.is_file() else shutil.which("deno")
    if found is None:
        raise FileNotFoundError(f"no Deno: {HOW}")
    return Path(found)


def require() -> None:
    """Raises `FileNotFoundError` where Deno is absent, or Lite's packages were not fetched."""
    deno()
    if not (CACHE / "npm").is_dir():
        raise FileNotFoundError(f"no Supabase Lite: {HOW}")


def fetch_packages() -> int:
    """Fill the cache from the npm registry, exactly as the lock file says. Returns the exit code."""
    command = [str(deno()), "cache", "--frozen", "--quiet", str(LITE)]
    return subprocess.run(command, env={**os.environ, "DENO_DIR": str(CACHE)}, check=False).returncode  # noqa: S603


def _answers(url: str) -> bool:
    try:
        httpx.request("OPTIONS", url, timeout=5, verify=False)  # noqa: S501  plain HTTP; no certificates to be read
    except httpx.TransportError:
        return False
    return True
