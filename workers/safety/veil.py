"""What must not be read by who reads the volume or redis: prompts, and whatever else callbacks say of a job.

Under a key of the deployment; who does not have it any more finds such entries empty, and a job is delivered without.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from workers.logs import log

VEILED = "veiled"
PRIVATE = frozenset({"metadata", "enhanced_prompt"})
PURPOSE = b"ourvidz-workers: prompts at rest"


class Veil:
    """Covers the private entries of a record with one token: AES and HMAC, by Fernet."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def cover(self, record: Mapping[str, Any]) -> dict[str, Any]:
        private = {name: value for name, value in record.items() if name in PRIVATE}
        token = self._cipher.encrypt(json.dumps(private, ensure_ascii=False).encode()).decode()
        return {name: value for name, value in record.items() if name not in PRIVATE} | {VEILED: token}

    def uncover(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record as it was, also one that was never covered; without its private entries under another key."""
        from cryptography.fernet import InvalidToken

        rest = dict(record)
        token = rest.pop(VEILED, None)
        if token is None:
            return rest
        try:
            private: dict[str, Any] = json.loads(self._cipher.decrypt(str(token).encode()))
        except InvalidToken:
            log.warning("veil not lifted", reason="another key")
            return rest
        return rest | private

    @cached_property
    def _cipher(self) -> Any:
        from cryptography.fernet import Fernet

        key = hmac.digest(self._secret.encode(), PURPOSE, hashlib.sha256)
        return Fernet(base64.urlsafe_b64encode(key))


def covered_result(veil: Veil | None, result: Mapping[str, Any]) -> dict[str, Any]:
    """A remembered result, the private entries of its outcome covered."""
    return dict(result) if veil is None else {**result, "outcome": veil.cover(result["outcome"])}


def uncovered_result(veil: Veil | None, result: Mapping[str, Any]) -> dict[str, Any]:
    if veil is None or not isinstance(result.get("outcome"), dict):
        return dict(result)
    return {**result, "outcome": veil.uncover(result["outcome"])}
