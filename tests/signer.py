"""A signer of content credentials that keeps its key to itself and signs over HTTP, as a deployment would run one."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support import HttpServer, serving

from workers.provenance.chain import Keys, keys_in

TOKEN = "planted-signer-token"


class SigningServer(HttpServer):
    """`status` is what it answers; 200 when all is well. `hangs` keeps it silent until the test ends."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(_Handler)
        self.keys = keys
        self.key = serialization.load_pem_private_key(keys.signing, None)
        self.status, self.hangs = 200, False
        self.identity: dict[str, str] = {"alg": "es256", "certificates": keys.certificates}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"{super().url}/sign"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SigningServer

    def do_GET(self) -> None:
        self._reply(json.dumps(self.server.identity).encode())

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(self.server.key.sign(data, ec.ECDSA(hashes.SHA256())))

    def _reply(self, body: bytes) -> None:
        self.server.asked.append(self.command)
        if self.server.hangs:
            self.server.closing.wait(30)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.send_response(self.server.status if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


def running_signer(folder: Path) -> AbstractContextManager[SigningServer]:
    return serving(SigningServer(keys_in(folder)))
