"""A REST gateway in front of redis that answers as the Upstash service does."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from workers.local.commands import access_rules, refusal
from workers.local.resp import Command, Connection, Reply, RespError

METHODS = ("GET", "HEAD", "POST", "PUT")
SUBSCRIPTIONS = (b"subscribe", b"psubscribe")
_USER = b"rest"
_OWN_RULES = [b"+multi", b"+exec", b"+subscribe", b"+psubscribe"]
_GREETING: Sequence[Command] = (
    [b"ACL", b"SETUSER", _USER, *access_rules(), *_OWN_RULES],
    [b"AUTH", _USER, b"none"],
)


class Gateway:
    """The application. One redis connection serves all requests, one more each subscription.

    `commands` counts what the service would bill: a script is one command, whatever it calls.
    """

    def __init__(self, redis_url: str, token: str) -> None:
        self._redis_url = redis_url
        self._token = token
        self._redis = Connection(redis_url, _GREETING)
        self.commands = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except _Refused as error:
            response = JSONResponse({"error": str(error)}, error.status)
        except (OSError, EOFError):
            response = JSONResponse({"error": "ERR the database cannot be reached"}, 503)
        await response(scope, receive, send)

    async def close(self) -> None:
        self._redis.close()

    async def _answer(self, request: Request) -> Response:
        self._admit(request)
        path = _path(request)
        if path and path[0].lower() in SUBSCRIPTIONS and "text/event-stream" in request.headers.get("accept", ""):
            return self._stream([path[0].lower(), *path[1:]])
        if path in ([b"pipeline"], [b"multi-exec"]):
            return await self._many(request, atomic=path == [b"multi-exec"])
        body = await request.body()
        command = _command(_json(body)) if not path else _path_command(path, body, request)
        return await self._one(request, command)

    def _admit(self, request: Request) -> None:
        if request.method not in METHODS:
            raise _Refused("ERR method not allowed", 405)
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else request.query_params.get("_token", "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise _Refused("WRONGPASS invalid or missing auth token", 401)

    async def _one(self, request: Request, command: Command) -> Response:
        refused = refusal(command)
        if refused:
            raise _Refused(refused)
        self.commands += 1
        (reply,) = await self._redis.batch([command])
        return JSONResponse(_result(reply, request), 400 if isinstance(reply, RespError) else 200)

    async def _many(self, request: Request, *, atomic: bool) -> Response:
        commands = _commands(_json(await request.body()))
        self.commands += len(commands)
        replies = await (self._transaction(commands) if atomic else self._pipeline(commands))
        return JSONResponse([_result(reply, request) for reply in replies])

    async def _pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        refused = [refusal(command) for command in commands]
        taken = [command for command, error in zip(commands, refused, strict=True) if not error]
        replies = iter(await self._redis.batch(taken))
        return [RespError(error) if error else next(replies) for error in refused]

    async def _transaction(self, commands: Sequence[Command]) -> list[Reply]:
        refused = next(filter(None, map(refusal, commands)), None)
        if refused:
            raise _Refused(f"EXECABORT Transaction discarded because of: {refused}")
        _, *queued, replies = await self._redis.batch([[b"MULTI"], *commands, [b"EXEC"]])
        if not isinstance(replies, list):
            reason = next((reply for reply in queued if isinstance(reply, RespError)), replies)
            raise _Refused(f"EXECABORT Transaction discarded because of: {_text(reason)}")
        return replies

    def _stream(self, command: Command) -> Response:
        if len(command) < 2:
            raise _Refused(f"ERR wrong number of arguments for '{command[0].decode()}' command")
        self.commands += 1
        events = _events(Connection(self._redis_url, _GREETING), command)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


class _Refused(Exception):
    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


async def _events(redis: Connection, command: Command) -> AsyncIterator[bytes]:
    """Server-sent events: `subscribe,CHANNEL,COUNT`, then `message,CHANNEL,TEXT` for each message."""
    try:
        async for reply in redis.listen(command):
            text = ",".join(_text(part) for part in reply) if isinstance(reply, list) else _text(reply)
            yield "".join(f"data: {line}\n" for line in text.split("\n")).encode() + b"\n"
    except (OSError, EOFError):
        return
    finally:
        redis.close()


def _path(request: Request) -> list[bytes]:
    """The segments of the path, decoded one by one, so that an encoded slash stays inside its argument."""
    raw: bytes = request.scope["raw_path"]
    return [unquote_to_bytes(segment) for segment in raw.removeprefix(b"/").split(b"/")] if raw != b"/" else []


def _path_command(path: Sequence[bytes], body: bytes, request: Request) -> Command:
    """The path, the body as it is, and the query's parameters, `EX=100` being two arguments and `NX` one."""
    query = parse_qsl(request.url.query, keep_blank_values=True)
    options = [part for name, value in query if name != "_token" for part in (name, value) if part]
    return [*path, *([body] if body else []), *(option.encode() for option in options)]


def _json(body: bytes) -> Any:
    """JSON with its numbers left as text: an argument goes to redis as it was written."""
    try:
        return json.loads(body, parse_int=str, parse_float=str)
    except ValueError:
        raise _Refused("ERR failed to parse the request: the body is not JSON") from None


def _commands(value: Any) -> list[Command]:
    if not isinstance(value, list) or not value:
        raise _Refused("ERR failed to parse the request: expected a list of commands")
    return [_command(item) for item in value]


def _command(value: Any) -> Command:
    if not isinstance(value, list) or not value:
        raise _Refused("ERR failed to parse the request: expected a list that begins with a command")
    return [_argument(item) for item in value]


def _argument(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if not isinstance(value, str):
        raise _Refused("ERR failed to parse the request: arguments are strings, numbers or booleans")
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _result(reply: Reply, request: Request) -> dict[str, Any]:
    if isinstance(reply, RespError):
        return {"error": str(reply)}
    return {"result": _shaped(reply, encoded=request.headers.get("upstash-encoding", "").lower() == "base64")}


def _shaped(reply: Reply, *, encoded: bool) -> Any:
    if isinstance(reply, list):
        return [_shaped(part, encoded=encoded) for part in reply]
    if isinstance(reply, bytes) and encoded and reply != b"OK":
        return base64.b64encode(reply).decode()
    return reply if isinstance(reply, int) or reply is None else _text(reply)


def _text(reply: Reply) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
