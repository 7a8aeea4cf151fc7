"""HTTP for operators, on the standard library's server: a thread for each connection, few of them, all bounded.

It runs inside the supervisor, so nothing that a request does or suffers may reach further than its own thread.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from workers.logs import describe, log

CONNECTIONS = 32
PATIENCE = 15.0
"""Seconds that a client may take to send or to receive something."""

MOST_BODY = 65_536
MOST_FORGOTTEN = 1 << 20
LINGER = 2.0
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
GONE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` have lower-case names; `path` is decoded, without the query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """A body at once, or, with `pieces`, one that is sent as it comes until the client leaves."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Iterator[bytes] | None = None


App = Callable[[Request], Response]


def as_json(value: Any, status: int = 200) -> Response:
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, body, "application/json")


def problem(status: int, sentence: str) -> Response:
    return as_json({"error": sentence}, status)


class HttpServer(ThreadingHTTPServer):
    """Serves an application from `start` on. Raises `OSError` where the address cannot be taken."""

    daemon_threads = True
    request_queue_size = 64
    allow_reuse_address = True

    def __init__(self, host: str, port: int, app: App) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__((host, port), _handler(app))

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, name="ops-server", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, GONE):
            log.warning("ops request failed", **describe(error))


def _handler(app: App) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = PATIENCE

        def do_GET(self) -> None:
            _answer(self, app)

        do_HEAD = do_POST = do_GET

        def version_string(self) -> str:
            return "ourvidz"

        def log_message(self, *_arguments: object) -> None:
            """Requests are no events."""

    return Handler


def _answer(handler: BaseHTTPRequestHandler, app: App) -> None:
    body = _body(handler)
    if body is None:
        handler.close_connection = True
        _send(handler, problem(413, f"A body of at most {MOST_BODY} bytes and a Content-Length are needed."))
        _linger(handler.connection)
        return
    parts = urlsplit(handler.path)
    request = Request(
        method=handler.command,
        path=unquote(parts.path, errors="replace"),
        query=dict(parse_qsl(parts.query)),
        headers={name.lower(): value for name, value in handler.headers.items()},
        body=body,
    )
    try:
        response = app(request)
    except Exception as error:
        log.warning("ops request failed", path=parts.path, **describe(error))
        response = problem(500, "The request failed; the supervisor's log says where.")
    _send(handler, response)


def _body(handler: BaseHTTPRequestHandler) -> bytes | None:
    """What the client sent; None where it is too long, or of unknown length."""
    length = handler.headers.get("Content-Length", "0")
    if handler.headers.get("Transfer-Encoding") or not length.isdigit() or int(length) > MOST_BODY:
        return None
    return handler.rfile.read(int(length))


def _linger(line: socket.socket) -> None:
    """Whoever still sends when the line is cut loses the answer: take some more of it, and forget it."""
    line.settimeout(LINGER)
    line.shutdown(socket.SHUT_WR)
    left = MOST_FORGOTTEN
    with contextlib.suppress(OSError):
        while left > 0 and (taken := line.recv(MOST_BODY)):
            left -= len(taken)


def _send(handler: BaseHTTPRequestHandler, response: Response) -> None:
    handler.send_response(response.status)
    for name, value in {**HEADERS, "Content-Type": response.content_type, **response.headers}.items():
        handler.send_header(name, value)
    if handler.close_connection or response.pieces is not None:
        handler.close_connection = True
        handler.send_header("Connection", "close")
    if response.pieces is None:
        handler.send_header("Content-Length", str(len(response.body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(response.body)
        return
    handler.end_headers()
    if handler.command != "HEAD":
        _stream(handler, response.pieces)


def _stream(handler: BaseHTTPRequestHandler, pieces: Iterator[bytes]) -> None:
    try:
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
