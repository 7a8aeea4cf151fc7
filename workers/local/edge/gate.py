"""The one address of the local deployment, as on the platform: functions, tables, storage and keys behind it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from workers.local.supabase.keys import Keys

FUNCTIONS = "/functions/v1/"
JWKS = "/auth/v1/.well-known/jwks.json"
USER = "/auth/v1/user"
OF_ONE_HOP = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "content-encoding", "accept-encoding"}
)
PATIENCE = 60.0


class Gate:
    """The application. `functions` are name -> address. `service` are the keys that callers may have, of both
    kinds; `lite` knows another, for it takes no legacy ones. `sessions` knows the
    project's secret. `seen` are the callbacks in the order of their answers.
    """

    def __init__(
        self,
        *,
        lite: str,
        functions: Mapping[str, str],
        service: Collection[str],
        keys: tuple[str, str],
        sessions: Keys,
        jwks: Sequence[Any] = (),
    ) -> None:
        self._lite, self._functions, self._service = lite, functions, frozenset(service)
        self._publishable, self._secret = keys
        self._sessions = sessions
        self._jwks = list(jwks)
        self._http = httpx.AsyncClient(timeout=PATIENCE, verify=False)  # noqa: S501  plain HTTP on this machine
        self.seen: list[tuple[dict[str, Any], int]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def close(self) -> None:
        await self._http.aclose()

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        if path == JWKS:
            return JSONResponse({"keys": self._jwks})
        if path == USER:
            return self._user(request.headers.get("authorization", "").removeprefix("Bearer "))
        if path.startswith(FUNCTIONS):
            return await self._function(request, path.removeprefix(FUNCTIONS).partition("/")[0])
        headers = self._in_lites_terms(request)
        if headers is None:
            return JSONResponse({"message": "Invalid API key"}, 401)
        return await self._pass_on(request, self._lite, headers)

    async def _function(self, request: Request, name: str) -> Response:
        if name not in self._functions:
            return JSONResponse({"code": "NOT_FOUND", "message": "Requested function was not found"}, 404)
        response = await self._pass_on(request, self._functions[name], dict(request.headers))
        if name == "job-callback":
            self.seen.append((_object(await request.body()), response.status_code))
        return response

    def _user(self, token: str) -> Response:
        try:
            claims = self._sessions.read(token)
        except (ValueError, KeyError):
            claims = None
        return JSONResponse({"msg": "invalid JWT"}, 403) if claims is None else JSONResponse({"id": claims.get("sub")})

    def _in_lites_terms(self, request: Request) -> dict[str, str] | None:
        """The service key, of either kind, as Lite's own; users' tokens as they are. None for no key at all."""
        headers = dict(request.headers)
        key, bearer = headers.pop("apikey", ""), headers.get("authorization", "").removeprefix("Bearer ")
        if bearer.startswith("sb_") or not (key or bearer):
            return None if not request.query_params.get("token") else headers
        if not self._service.isdisjoint((key, bearer)):
            headers.pop("authorization", None)
            return headers | {"apikey": self._secret}
        return headers | {"apikey": self._publishable}

    async def _pass_on(self, request: Request, base: str, headers: Mapping[str, str]) -> Response:
        """The answer, or a gateway's own 502 where nobody listens."""
        target = base + request.scope["raw_path"].decode()
        query = request.scope["query_string"].decode()
        passed = [(n.encode(), value.encode("latin-1")) for n, value in headers.items() if n not in OF_ONE_HOP]
        try:
            answer = await self._http.request(
                request.method, f"{target}?{query}" if query else target, headers=passed, content=await request.body()
            )
        except httpx.TransportError:
            return JSONResponse({"message": "An invalid response was received from the upstream server"}, 502)
        kept = {name: value for name, value in answer.headers.items() if name not in OF_ONE_HOP}
        return Response(answer.content, answer.status_code, kept)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
