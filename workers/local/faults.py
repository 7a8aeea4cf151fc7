"""Faults that can be switched on in front of a local service while it runs."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.local.serving import abort

Kind = Literal["latency", "error", "lost_request", "lost_reply", "hang"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong, and for which requests.

    latency: answered `seconds` late. error: answered with `status` (and `Retry-After`) and `text`, not handled; with
    `html` the body is a page, as proxies send it. lost_request: the connection is cut before the request is handled.
    lost_reply: it is cut afterwards. hang: no answer for `seconds`, then cut, not handled.

    `path` is a shell pattern; `contains` must occur in the body. The first `skip` requests that fit pass; of the
    others each is struck with the probability `rate`, at most `count` of them in all.
    """

    kind: Kind
    path: str = "*"
    contains: str = ""
    skip: int = 0
    rate: float = 1.0
    count: int | None = None
    seconds: float = 1.0
    status: int = 503
    retry_after: int | None = None
    html: bool = False
    text: str = ""


class ActiveFault:
    """A fault that is switched on; `struck` counts the requests it hit."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.seen = 0
        self.struck = 0

    def strikes(self, path: str, body: bytes, chance: float) -> bool:
        fault = self.fault
        if not fnmatchcase(path, fault.path) or fault.contains.encode() not in body:
            return False
        self.seen += 1
        spent = fault.count is not None and self.struck >= fault.count
        if self.seen <= fault.skip or spent or chance >= fault.rate:
            return False
        self.struck += 1
        return True


class Faults:
    """The faults of one or more services. The same seed and the same requests give the same faults."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311  reproducible on purpose
        self._lock = threading.Lock()
        self._active: list[ActiveFault] = []

    def add(self, kind: Kind, **options: Any) -> ActiveFault:
        active = ActiveFault(Fault(kind, **options))
        with self._lock:
            self._active.append(active)
        return active

    def clear(self, seed: int | None = None) -> None:
        with self._lock:
            self._active.clear()
            if seed is not None:
                self._random.seed(seed)

    def strike(self, path: str, body: bytes) -> list[Fault]:
        """The faults that this request meets, in the order they were switched on."""
        with self._lock:
            return [a.fault for a in self._active if a.strikes(path, body, self._random.random())]

    def report(self) -> list[dict[str, Any]]:
        with self._lock:
            return [{**asdict(active.fault), "struck": active.struck} for active in self._active]


class Faulty:
    """An application behind its faults. `/_faults` reads (GET), adds (POST) and clears (DELETE) them."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/_faults":
            response = await self._switch(Request(scope, receive))
            return await response(scope, receive, send)
        try:
            body = await Request(scope, receive).body()
        except ClientDisconnect:
            return None  # whoever sent it died on the way
        handler = self._app
        for fault in reversed(self._faults.strike(scope["path"], body)):
            handler = _behind(fault, handler)
        return await handler(scope, _replay(body, receive), send)

    async def _switch(self, request: Request) -> Response:
        try:
            if request.method == "DELETE":
                self._faults.clear()
            elif request.method == "POST":
                self._faults.add(**_options(await request.json()))
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(self._faults.report())


def _behind(fault: Fault, app: ASGIApp) -> ASGIApp:
    """The application as it looks while this fault strikes."""

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(fault.seconds)
        await app(scope, receive, send)

    async def refused(scope: Scope, receive: Receive, send: Send) -> None:
        await _refusal(fault)(scope, receive, send)

    async def lost_request(scope: Scope, receive: Receive, send: Send) -> None:
        await abort(scope, receive)

    async def lost_reply(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, _swallow)
        await abort(scope, receive)

    async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.wait([asyncio.ensure_future(_gone(receive))], timeout=fault.seconds)
        await abort(scope, receive)

    return {
        "latency": late,
        "error": refused,
        "lost_request": lost_request,
        "lost_reply": lost_reply,
        "hang": hanging,
    }[fault.kind]


def _refusal(fault: Fault) -> Response:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.html:
        return HTMLResponse(f"<html><body><h1>{fault.status}</h1></body></html>", fault.status, headers)
    return JSONResponse({"error": fault.text or f"ERR injected fault {fault.status}"}, fault.status, headers)


def _options(body: Any) -> dict[str, Any]:
    """What `add` takes, from a JSON object. Raises `ValueError` for what is not a fault."""
    names = {field.name for field in fields(Fault)}
    if not isinstance(body, Mapping) or not set(body) <= names or body.get("kind") not in get_args(Kind):
        raise ValueError(f"expected an object with kind ({', '.join(get_args(Kind))}) and any of {sorted(names)}")
    return dict(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand out a body that was read already, then whatever follows it on the connection."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


async def _swallow(message: Message) -> None:
    pass


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
