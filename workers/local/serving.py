"""An ASGI application on a loopback port, in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from types import TracebackType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

START_LIMIT = 60.0
"""Seconds until a server thread that does not listen counts as failed."""


class LocalServer:
    """One application being served. `port` 0 takes a free one, which `start()` after `stop()` takes again.

    `close` is called in the server's thread and loop when it has stopped.
    """

    def __init__(self, app: ASGIApp, port: int = 0, close: Callable[[], Awaitable[None]] | None = None) -> None:
        self._app = app
        self._close = close
        self.port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> LocalServer:
        listener = _listener(self.port)
        self.port = listener.getsockname()[1]
        self._server = uvicorn.Server(_config(self._serve))
        name = f"local-{self.port}"
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name=name, daemon=True)
        self._thread.start()
        self._wait(self._server, self._thread)
        return self

    def stop(self) -> None:
        """Close the port; requests still being handled are cut off."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        try:
            await self._app(scope, receive, send)
        except Exception:
            traceback.print_exc()  # the server's own log also says harmless things at its end, and is off
            raise

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._close is not None:
            await self._close()
        await send({"type": "lifespan.shutdown.complete"})

    def _wait(self, server: uvicorn.Server, thread: threading.Thread) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the local server did not start")
            time.sleep(0.002)


class _OpenProtocol(H11Protocol):
    """HTTP that shows the application its connection, so that `abort` can cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the parent
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


async def abort(scope: Scope, receive: Receive) -> None:
    """Cut the connection of a request without a word, as a network does, and wait until it is gone."""
    scope["state"]["transport"].abort()
    while (await receive())["type"] != "http.disconnect":
        pass


def _listener(port: int) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", port))
    # Connections inherit this; without it each answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=_OpenProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=0,
    )
