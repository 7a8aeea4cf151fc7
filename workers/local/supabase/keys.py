"""Service keys, users' tokens, and who may call.

A legacy service key is a JWT and goes as bearer token and `apikey`. A new `sb_secret_…` key is none, goes in
`apikey` alone, and fails as bearer token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workers.local.supabase.answers import unauthorized

KeyKind = Literal["legacy", "secret"]
YEAR = 365 * 86400


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `user_id` is None for the service, which may do everything."""

    user_id: str | None

    def may_touch(self, path: str) -> bool:
        """Row-level security: users reach what lies in the folder named after them."""
        return self.user_id is None or path.startswith(f"{self.user_id}/")


class Keys:
    """The project's signing secret, by default a new one, and the service key made with it."""

    def __init__(self, kind: KeyKind = "legacy", secret: bytes | None = None) -> None:
        self._secret = secret or secrets.token_bytes(32)
        new = f"sb_secret_{secrets.token_urlsafe(24)}"
        self.service = new if kind == "secret" else self.sign({"iss": "supabase", "role": "service_role"}, YEAR)

    def user_token(self, user_id: str) -> str:
        """What a signed-in user's browser sends."""
        return self.sign({"role": "authenticated", "sub": user_id}, 3600)

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Raises the 401 of the gateway for a key that it does not take."""
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not bearer:
            return self._by_api_key(headers.get("apikey", ""))
        claims = self.read(bearer)
        if claims is None or claims.get("role") not in ("service_role", "authenticated"):
            raise unauthorized("Invalid JWT")
        return Caller(None if claims["role"] == "service_role" else str(claims["sub"]))

    def sign(self, claims: Mapping[str, Any], seconds: float) -> str:
        """A JWT (HS256) that expires after so many seconds."""
        header = {"alg": "HS256", "typ": "JWT"}
        text = ".".join(_encode(json.dumps(p).encode()) for p in (header, {**claims, "exp": time.time() + seconds}))
        return f"{text}.{self._signature(text)}"

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of a JWT of ours, None for one that is not, or is expired."""
        text, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(text).encode()):
            return None
        claims: dict[str, Any] = json.loads(_decode(text.partition(".")[2]))
        return claims if claims["exp"] > time.time() else None

    def _by_api_key(self, key: str) -> Caller:
        if not key.startswith("sb_"):
            raise unauthorized("Missing authorization header")
        if not hmac.compare_digest(key.encode(), self.service.encode()):
            raise unauthorized("Invalid API key")
        return Caller(None)

    def _signature(self, text: str) -> str:
        return _encode(hmac.digest(self._secret, text.encode(), hashlib.sha256))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
