"""The other side of the wire: the project's own database and edge functions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dbrig import Database, copied, installed
from fnrig import JWKS, Browser, Worker, browsing
from guarding import SECRET

from workers.local.edge.stack import EdgeStack
from workers.local.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        server.create("as_installed")
        server.install("as_installed")
        yield server


@pytest.fixture(scope="session")
def shared(postgres: PostgresServer) -> Iterator[Database]:
    postgres.create("shared", template="as_installed")
    with installed(postgres, "shared") as database:
        yield database


@pytest.fixture
def db(shared: Database) -> Database:
    """One database for all tests, each with users of its own: settings are left as they are."""
    return shared


@pytest.fixture
def own_db(postgres: PostgresServer) -> Iterator[Database]:
    """A database of this test's own."""
    yield from copied(postgres)


@pytest.fixture(scope="session")
def edge() -> Iterator[EdgeStack]:
    """The functions under Deno, over a database of their own; in a project with keys of all kinds."""
    settings = {"ENHANCE_WAIT_SECONDS": "3", "CONSENT_SECRET": SECRET}
    with EdgeStack(key_kind="secret", jwks=JWKS, **settings) as stack:
        yield stack


@pytest.fixture
def browser(edge: EdgeStack) -> Iterator[Browser]:
    """A user nobody else has, with credits."""
    edge.gateway_faults.clear(seed=0)
    edge.faults.clear(seed=0)
    with browsing(edge) as found:
        yield found


@pytest.fixture
def worker(browser: Browser) -> Worker:
    """Who makes a picture of that user."""
    return Worker(browser.edge, browser.queued())
