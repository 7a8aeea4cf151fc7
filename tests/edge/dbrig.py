"""The project's database on a real PostgreSQL, spoken to as whoever may come: service, users, admins, nobody."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, cast

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from workers.local.postgres import OWNER, PostgresServer

PROMPT = "a red bicycle"
Connection = psycopg.Connection[DictRow]


@dataclass(frozen=True, slots=True)
class Database:
    """`owner` is who applied the migrations; each of its statements is a transaction."""

    server: PostgresServer
    name: str
    owner: Connection

    def connect(self, role: str = "postgres") -> Connection:
        return psycopg.connect(self.server.url(self.name, role), autocommit=True, row_factory=dict_row)

    def sql(self, statement: str, *values: Any) -> list[DictRow]:
        return run(self.owner, statement, *values)

    def one(self, statement: str, *values: Any) -> Any:
        (row,) = self.sql(statement, *values)
        return next(iter(row.values()))

    def row(self, table: str, id_: str) -> DictRow:
        (row,) = self.sql(f"select * from public.{table} where id = %s", id_)
        return row

    def rows(self, table: str, job: str) -> list[DictRow]:
        order = "image_index" if table == "images" else "id"
        return self.sql(f"select * from public.{table} where job_id = %s order by {order}", job)

    def user(self, *, credits: int = 100, **columns: Any) -> str:
        """A user who signed up, with so many credits."""
        user = str(uuid.uuid4())
        self.sql("insert into auth.users (id) values (%s)", user)
        if credits != 100:
            self.rpc("grant_credits", p_user=user, p_amount=credits - 100, p_reason="for a test")
        if columns:
            self.rpc("set_profile", p_user=user, p_changes=columns)
        return user

    def admin(self) -> str:
        return self.user(role="admin")

    def rpc(self, name: str, **arguments: Any) -> Any:
        """A function, called as the REST interface calls it for the service key."""
        with self.acting("service_role", None, keep=True) as connection:
            return call(connection, name, **arguments)

    def create(self, user: str, job_type: str = "image_fast", **wish: Any) -> dict[str, Any]:
        request = {"job_type": job_type, "prompt": PROMPT, **wish}
        return cast(dict[str, Any], self.rpc("create_job", p_user=user, p_request=request))

    def job(self, user: str, job_type: str = "image_fast", **wish: Any) -> str:
        """The id of a new job."""
        return str(self.create(user, job_type, **wish)["job"]["id"])

    def hear(self, job: str, status: str, *, webhook: str | None = None, **body: Any) -> dict[str, Any]:
        """A callback, with as many assets as the job has where it completes and names none."""
        said = {"job_id": job, "status": status, **body}
        if status == "completed" and "assets" not in said:
            said["assets"] = self.assets(job)
        return cast(dict[str, Any], self.rpc("receive_callback", p_body=said, p_webhook_id=webhook))

    def assets(self, job: str, count: int | None = None) -> list[str]:
        row = self.row("jobs", job)
        ending = "mp4" if row["job_type"].startswith("video") else "png"
        wanted = row["metadata"]["num_images"] if count is None else count
        return [f"{row['user_id']}/{job}/{index}.{ending}" for index in range(wanted)]

    def status(self, job: str) -> str:
        return str(self.row("jobs", job)["status"])

    def credits(self, user: str) -> int:
        return int(self.row("profiles", user)["credits"])

    def ledger(self, job: str) -> dict[str, int]:
        lines = self.sql("select kind, amount from public.credit_ledger where job_id = %s", job)
        return {line["kind"]: line["amount"] for line in lines}

    @contextmanager
    def acting(self, role: str, user: str | None, *, keep: bool = False) -> Iterator[Connection]:
        """A transaction as the REST interface opens it for a token: undone at its end unless it is to be kept."""
        claims = {"role": role} | ({"sub": user} if user else {})
        with self.owner.transaction(force_rollback=not keep):
            run(self.owner, "select set_config('request.jwt.claims', %s, true)", json.dumps(claims))
            run(self.owner, f"set local role {role}")
            yield self.owner

    @contextmanager
    def signed_in(self, user: str) -> Iterator[Connection]:
        with self.acting("authenticated", user) as connection:
            yield connection

    @contextmanager
    def nobody(self) -> Iterator[Connection]:
        with self.acting("anon", None) as connection:
            yield connection


def run(connection: Connection, statement: str, *values: Any) -> list[DictRow]:
    done = connection.execute(cast(LiteralString, statement), [_sent(value) for value in values])
    return done.fetchall() if done.description else []


def put(db: Database, bucket: str, name: str) -> str:
    """An object that the service wrote."""
    with db.acting("service_role", None, keep=True) as connection:
        return insert(connection, bucket, name)


def insert(connection: Connection, bucket: str, name: str) -> str:
    (row,) = run(connection, "insert into storage.objects (bucket_id, name) values (%s, %s) returning id", bucket, name)
    return str(row["id"])


def call(connection: Connection, name: str, **arguments: Any) -> Any:
    given = ", ".join(f"{argument} => %s" for argument in arguments)
    (row,) = run(connection, f"select public.{name}({given})", *arguments.values())
    return row[name]


@contextmanager
def refused(
    code: str, hint: str | None = None, match: str | None = None
) -> Iterator[pytest.ExceptionInfo[psycopg.Error]]:
    """What follows fails with this SQLSTATE, and says so with this hint."""
    with pytest.raises(psycopg.Error, match=match) as caught:
        yield caught
    assert caught.value.sqlstate == code, caught.value
    assert hint is None or caught.value.diag.message_hint == hint


def denied() -> Any:
    """The right to do it at all is missing."""
    return refused("42501")


@contextmanager
def installed(server: PostgresServer, name: str) -> Iterator[Database]:
    with psycopg.connect(server.url(name), autocommit=True, row_factory=dict_row) as owner:
        yield Database(server, name, owner)


def copied(server: PostgresServer) -> Iterator[Database]:
    name = f"own_{uuid.uuid4().hex}"
    server.create(name, template="as_installed")
    with installed(server, name) as database:
        yield database
    server.drop(name)


def _sent(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, Mapping) else value


__all__ = ["OWNER", "PROMPT", "Database", "call", "copied", "denied", "insert", "installed", "put", "refused", "run"]
