"""The functions as browsers, workers and strangers call them."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from workers.local.edge.stack import EdgeStack
from workers.local.stack import SECRET
from workers.supabase.callback import sign

PROMPT = "a lighthouse at dusk"
KEYS = {
    "ES256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "RS256": (rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm),
}
JWKS = tuple(
    json.loads(algorithm.to_jwk(key.public_key())) | {"kid": name, "alg": name, "use": "sig"}
    for name, (key, algorithm) in KEYS.items()
)
"""What the project of these tests publishes, beside its secret of old."""

CALLBACK = "/functions/v1/job-callback"


def plain(content: bytes, secret: str = SECRET) -> dict[str, str]:
    """The newest form's own header, without id and time."""
    return {"X-Callback-Signature": "sha256=" + hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()}


class Browser:
    """A signed-in user."""

    def __init__(self, edge: EdgeStack, user: str) -> None:
        self.edge, self.user = edge, user
        self.http = edge.client(user)

    def call(self, function: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.http.post(f"/functions/v1/{function}", json=body, headers=headers)

    def ask(self, job_type: str = "image_fast", **fields: Any) -> httpx.Response:
        return self.call("queue-job", {"jobType": job_type, "prompt": PROMPT, **fields})

    def queued(self, job_type: str = "image_fast", **fields: Any) -> dict[str, Any]:
        """The row of a job that was accepted."""
        answer = self.ask(job_type, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["job"]

    def signs(self, bucket: str, path: str) -> httpx.Response:
        return self.http.post(f"/storage/v1/object/sign/{bucket}/{path}", json={"expiresIn": 60})


@contextmanager
def browsing(edge: EdgeStack, **profile: Any) -> Iterator[Browser]:
    browser = Browser(edge, edge.add_user(**profile))
    yield browser
    browser.http.close()


class Worker:
    """What a worker says, signed as workers sign it; each argument of `says` spoils one part of that."""

    def __init__(self, edge: EdgeStack, job: dict[str, Any]) -> None:
        self.edge, self.job = edge, job

    def body(self, status: str, **fields: Any) -> dict[str, Any]:
        folder = f"{self.job['user_id']}/{self.job['id']}"
        assets = {"assets": [f"{folder}/0.png"]} if status == "completed" else {}
        return {"job_id": self.job["id"], "status": status, "metadata": {"attempt": 1}, **assets, **fields}

    def says(
        self, status: str, *, secret: str = SECRET, age: float = 0, message: str = "", **fields: Any
    ) -> httpx.Response:
        content = json.dumps(self.body(status, **fields)).encode()
        return self.sends(content, sign(secret, content, message or uuid.uuid4().hex, int(time.time() - age)))

    def sends(self, content: bytes, headers: dict[str, str]) -> httpx.Response:
        return self.edge.http.post(CALLBACK, content=content, headers={"Content-Type": "application/json"} | headers)

    @property
    def row(self) -> dict[str, Any]:
        return self.edge.job(self.job["id"])

    @property
    def images(self) -> list[dict[str, Any]]:
        return self.edge.rows("images", job_id=self.job["id"])


def command(edge: EdgeStack, *words: object) -> Any:
    """One command to the queue's redis."""
    headers = {"Authorization": f"Bearer {edge.env['UPSTASH_REDIS_REST_TOKEN']}"}
    answer = httpx.post(edge.gateway.url, headers=headers, json=list(words), timeout=60, verify=False)
    return answer.raise_for_status().json()["result"]


def message(edge: EdgeStack, job_id: str, queue: str = "wan_queue") -> dict[str, Any] | None:
    """The job's message as it waits at whichever place of the list."""
    waiting = [json.loads(text) for text in command(edge, "LRANGE", queue, 0, -1)]
    return next((each for each in waiting if each["id"] == job_id), None)


def credits_of(edge: EdgeStack, user: str) -> int:
    return int(edge.rows("profiles", id=user)[0]["credits"])
