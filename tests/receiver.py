"""An HTTP server that notes what really came over the wire, and answers what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from support import HttpServer, serving


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """`cut` closes the connection without a word; `early` answers without reading the body; `late` never answers."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    early: bool = False
    late: bool = False


class Receiver(HttpServer):
    """`requests` in the order of arrival, `answers` for the next ones; 200 when there are none left."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.requests: list[Received] = []
        self.answers: list[Answer] = []
        self.lock = threading.Lock()

    def next_answer(self) -> Answer:
        with self.lock:
            return self.answers.pop(0) if self.answers else Answer()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def handle_request(self) -> None:
        answer = self.server.next_answer()
        if answer.early:
            self.close_connection = True
            return self._reply(answer)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(Received(self.command, self.path, headers, body))
        if answer.late:
            self.server.closing.wait(30)
        if answer.cut or answer.late:
            self.close_connection = True
            return None
        return self._reply(answer)

    do_POST = do_PATCH = do_DELETE = handle_request

    def _reply(self, answer: Answer) -> None:
        body = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


def running_receiver() -> AbstractContextManager[Receiver]:
    return serving(Receiver())
