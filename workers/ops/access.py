"""Who may ask for what. Without a token only this machine's own browser and tools; with one, whoever knows it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from workers.ops.web import Request, Response, problem

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
COOKIE = "ourvidz_session"
MARK = "x-ourvidz"
"""A header that no page of another site can send without asking first, which is never granted."""

PUBLIC = frozenset({"/", "/health", "/ready", "/ping"})
"""Open to whoever reaches the port: probes, which say one word each, and the page, which holds no data."""


class Access:
    """`token` None lets everybody in who came over the loopback by a name of this machine."""

    def __init__(self, token: str | None, *, loopback: bool) -> None:
        self._token, self._loopback = token, loopback
        self._session = hmac.new(secrets.token_bytes(32), b"session", hashlib.sha256).hexdigest()

    def refusal(self, request: Request) -> Response | None:
        """What to answer instead, None where the request may pass."""
        if self._loopback and _name_of(request.headers.get("host", "")) not in LOCAL_NAMES:
            return problem(421, "This address answers to localhost only.")
        if request.method == "POST" and not _is_own(request.headers):
            return problem(403, f"Changes need the header {MARK}, and come from this server's own page.")
        if not self._is_public(request) and not self._knows(request.headers):
            return Response(401, b"A bearer token is needed.", headers={"WWW-Authenticate": "Bearer"})
        return None

    def session(self, request: Request) -> Response:
        """Whoever showed the token gets a cookie, since a browser sends no token for pictures and streams."""
        secure = "; Secure" if request.headers.get("x-forwarded-proto") == "https" else ""
        cookie = f"{COOKIE}={self._session}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return Response(204, headers={"Set-Cookie": cookie})

    def _is_public(self, request: Request) -> bool:
        return request.method != "POST" and (request.path in PUBLIC or request.path.startswith("/page/"))

    def _knows(self, headers: Mapping[str, str]) -> bool:
        if self._token is None:
            return True
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        by_token = scheme.lower() == "bearer" and _same(shown.strip(), self._token)
        return by_token or _same(_cookie(headers), self._session)


def _is_own(headers: Mapping[str, str]) -> bool:
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    own = origin is None or urlsplit(origin).netloc == headers.get("host")
    return MARK in headers and own and site in ("same-origin", "none")


def _cookie(headers: Mapping[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _name_of(host: str) -> str:
    """The name in a Host header, without its port. Never raises."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host


def _same(shown: str, known: str) -> bool:
    return hmac.compare_digest(shown.encode(errors="replace"), known.encode())
