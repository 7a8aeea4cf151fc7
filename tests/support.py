"""Small helpers that several test files use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import httpx

from workers.local.faults import Faults
from workers.local.gateway import Gateway
from workers.local.redis import RedisServer

# One request to a service on this machine. Without TLS there is no certificate store to read, which takes 40 ms.
get, post, delete = (partial(verb, verify=False, timeout=60) for verb in (httpx.get, httpx.post, httpx.delete))

TOKEN = "local-rest-token"


class HttpServer(ThreadingHTTPServer):
    """On a free loopback port. Who waits for `closing` keeps a client waiting until the test ends."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


Server = TypeVar("Server", bound=HttpServer)


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway with the redis behind it. `faults` strike its requests until the test ends; `app` counts them."""

    url: str
    token: str
    redis: RedisServer
    faults: Faults
    app: Gateway

    def client(self, **headers: str) -> httpx.Client:
        own = {"Authorization": f"Bearer {self.token}", **headers}
        return httpx.Client(base_url=self.url, headers=own, timeout=60, verify=False)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """A server that answers, in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def wait_until(holds: Callable[[], object], limit: float = 60.0) -> None:
    """Return as soon as it holds; fail after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, f"still not so after {limit} s"
        time.sleep(0.01)


def run(rest: httpx.Client, *command: Any) -> Any:
    """One command through the REST gateway."""
    return rest.post("/", json=list(command)).raise_for_status().json()["result"]
