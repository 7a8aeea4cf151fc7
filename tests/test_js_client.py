"""The official JavaScript client, at its defaults, against the gateway.

Where node and the registry are at hand the client itself runs, and must send what is recorded beside this file;
elsewhere, and always, the recorded requests are replayed. `python tests/test_js_client.py` makes the recording anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from support import TOKEN, RunningGateway

from workers.local.gateway import Gateway
from workers.local.redis import RedisServer
from workers.local.serving import LocalServer

HERE = Path(__file__).parent
RECORDING = HERE / "js_client.json"
VERSION = "1.39.0"

SEEN = {
    "set": "OK",
    "get": "lit",
    "nil": None,
    "together": [1, 1],
    "waiting": 1,
    "pop": {"id": "b91f", "type": "sdxl_image_fast", "prompt": "a red bicycle, café"},
    "hash": [2, {"x": 1, "y": "two"}],
    "script": ["k", "a", [1, None]],
    "loaded": "loaded",
    "noscript": "Command failed: NOSCRIPT No matching script",
    "refused": "Command 1 [ hexpire ] failed: ERR Command is not available: 'HEXPIRE'",
    "pipeline": ["OK", 2, 2],
    "multi": ["OK", 6, ["plain"]],
    "stream": "1-1",
    "heard": {"channel": "wake:sdxl_queue", "message": {"job": "b91f"}},
}


class Recorder:
    """An application and what it was asked and answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.exchanges: list[dict[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        unread: list[Message] = [{"type": "http.request", "body": body}]
        exchange = {
            "method": request.method,
            "path": scope["raw_path"].decode(),
            "headers": {name: request.headers[name] for name in ("accept", "upstash-encoding")},
            "body": body.decode(),
            "answer": "",
        }
        self.exchanges.append(exchange)

        async def replayed() -> Message:
            return unread.pop() if unread else await receive()

        async def recorded(message: Message) -> None:
            exchange["answer"] += message.get("body", b"").decode()
            await send(message)

        await self._app(scope, replayed, recorded)


def install(folder: Path) -> Path | None:
    """The client in an empty folder, None where that cannot be done here."""
    if not (shutil.which("node") and shutil.which("npm")):
        return None
    (folder / "package.json").write_text("{}")
    command = ["npm", "install", "--no-audit", "--no-fund", f"@upstash/redis@{VERSION}"]
    shutil.copy(HERE / "js_client.mjs", folder)
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return folder if done.returncode == 0 else None


def run_client(folder: Path, url: str) -> dict[str, Any]:
    variables = {"UPSTASH_REDIS_REST_URL": url, "UPSTASH_REDIS_REST_TOKEN": TOKEN}
    done = subprocess.run(
        ["node", "js_client.mjs"], cwd=folder, env={**os.environ, **variables}, capture_output=True, timeout=240
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def record(redis: RedisServer, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the client got, and what went over the wire."""
    app = Gateway(redis.url, TOKEN)
    recorder = Recorder(app)
    with LocalServer(recorder, close=app.close) as server:
        return run_client(folder, server.url), recorder.exchanges


def send(rest: httpx.Client, exchange: dict[str, Any], streams: ExitStack) -> Any:
    """Repeat a recorded request. The answer is parsed; an event stream is left open and read to its first event."""
    request = {name: exchange[name] for name in ("method", "headers")} | {"content": exchange["body"]}
    if exchange["headers"]["accept"] != "text/event-stream":
        return rest.request(url=exchange["path"], **request).json()
    events = streams.enter_context(rest.stream(url=exchange["path"], **request)).iter_lines()
    streams.callback(lambda: events)
    return next(events)


def expected(exchange: dict[str, Any]) -> Any:
    answer = exchange["answer"]
    return answer.splitlines()[0] if answer.startswith("data:") else json.loads(answer)


@pytest.fixture(scope="session")
def js_client(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    return install(tmp_path_factory.mktemp("js"))


def replay(gateway: RunningGateway) -> None:
    with gateway.client() as rest, ExitStack() as streams:
        for exchange in json.loads(RECORDING.read_text()):
            assert send(rest, exchange, streams) == expected(exchange), exchange["body"]


def test_the_javascript_client_is_served_at_its_defaults(gateway: RunningGateway, js_client: Path | None) -> None:
    if js_client is not None:
        seen, exchanges = record(gateway.redis, js_client)
        assert seen == SEEN
        assert exchanges == json.loads(RECORDING.read_text())
    else:
        replay(gateway)


def test_what_the_javascript_client_sends_is_answered_as_it_was(gateway: RunningGateway) -> None:
    replay(gateway)


if __name__ == "__main__":
    target = install(Path(sys.argv[1]))
    assert target is not None, "node, npm and the registry are needed"
    with RedisServer() as redis:
        RECORDING.write_text(json.dumps(record(redis, target)[1], indent=1, ensure_ascii=False) + "\n")
