"""What is served under which path. `docs/operations.md` lists it for people."""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from workers.errors import Unreachable
from workers.kinds import KINDS
from workers.ops import actions, files
from workers.ops.access import Access
from workers.ops.feed import encoded
from workers.ops.metrics import exposition
from workers.ops.recorder import Books, Recorder
from workers.ops.status import live, past, status
from workers.ops.web import App, Request, Response, as_json, problem
from workers.settings import Settings

PAGE = Path(__file__).with_name("page")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
WEEK_HOURS = 168.0
ID = r"([\w-]{1,64})"
KIND = f"({'|'.join(KINDS)})"
Handler = Callable[..., Response]
"""Gets the request, and the parts of the path that vary."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the paths are answered from. `metrics` is the folder of the processes' counts."""

    settings: Settings
    books: Books
    recorder: Recorder
    access: Access
    metrics: Path

    def health(self, _request: Request) -> Response:
        """Whether the supervisor lives: else only a new one helps."""
        return _word(200 if not self.books.board.stuck else 503)

    def ready(self, _request: Request) -> Response:
        """Whether every worker takes jobs."""
        return _word(503 if self.books.board.problems() else 200)

    def ping(self, _request: Request) -> Response:
        """As `ready`, for balancers that know a third word: 204 while workers are on their way."""
        if not self.books.board.problems():
            return _word(200)
        return _word(204 if self.books.board.loading else 503)

    def counts(self, _request: Request) -> Response:
        body = exposition(self.metrics, self.books.board, self.recorder.card)
        return Response(body=body, content_type=CONTENT_TYPE_LATEST)

    def state(self, _request: Request) -> Response:
        books = self.books
        return as_json(status(books.terms, books.board, self.recorder.card, books.archive, books.ring))

    def events(self, _request: Request) -> Response:
        pieces = self.books.feed.subscribe(encoded("live", live(self.books.board, self.recorder.card)))
        if pieces is None:
            return problem(503, "Too many pages are open.")
        return Response(content_type="text/event-stream", headers={"X-Accel-Buffering": "no"}, pieces=pieces)

    def history(self, request: Request) -> Response:
        hours = float(request.query.get("hours", "24"))
        if not 0 < hours <= WEEK_HOURS:
            raise ValueError(hours)
        return as_json(past(self.books.ring, hours))

    def file(self, request: Request, job_id: str, index: str) -> Response:
        if not self.books.terms.pictures:
            raise actions.NotThere("Files are not shown on this page: OPS_PICTURES is off.")
        entry = self.books.archive.find(job_id)
        if entry is None or int(index) >= len(entry.files):
            raise actions.NotThere("This job, or this file of it, is not among the last ones.")
        wanted, thumbnail = request.headers.get("range"), "thumbnail" in request.query
        return files.fetch(self.settings, entry.files[int(index)], thumbnail=thumbnail, wanted=wanted)

    def dead(self, _request: Request) -> Response:
        return as_json(actions.dead(self.settings))

    def page(self, _request: Request, name: str = "index.html") -> Response:
        """A file of the page. There are no folders in it, so that a name cannot lead anywhere else."""
        path = PAGE / name
        if not path.is_file():
            return problem(404, "There is no such file.")
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        text = "; charset=utf-8" if content_type.startswith("text/") else ""
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return Response(body=path.read_bytes(), content_type=content_type + text, headers=headers)

    def session(self, request: Request) -> Response:
        return self.access.session(request)

    def submit(self, request: Request) -> Response:
        if not self.settings.ops_submit:
            raise actions.NotThere("Jobs are not queued from this page: OPS_SUBMIT is off.")
        wish = _wish(request.body)
        images = wish.get("num_images")
        wished = images if isinstance(images, int) else None
        return as_json(actions.submit(self.settings, str(wish.get("type")), str(wish.get("prompt", "")), wished), 201)

    def requeue(self, _request: Request, entry: str) -> Response:
        return as_json(actions.requeue(self.settings, entry))

    def replay(self, _request: Request, job_id: str) -> Response:
        return as_json(actions.replay(self.settings, job_id))

    def cancel(self, _request: Request, job_id: str) -> Response:
        return as_json(actions.cancel(self.settings, job_id))

    def pause(self, _request: Request, kind: str, *, paused: bool) -> Response:
        return as_json(actions.pause(self.settings, kind, paused=paused))

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/health", self.health),
            ("GET", "/ready", self.ready),
            ("GET", "/ping", self.ping),
            ("GET", "/metrics", self.counts),
            ("GET", "/status", self.state),
            ("GET", "/events", self.events),
            ("GET", "/history", self.history),
            ("GET", rf"/files/{ID}/(\d{{1,2}})", self.file),
            ("GET", "/dead", self.dead),
            ("GET", "/", self.page),
            ("GET", r"/page/([\w-]+\.\w+)", self.page),
            ("POST", "/session", self.session),
            ("POST", "/jobs", self.submit),
            ("POST", f"/dead/{ID}/requeue", self.requeue),
            ("POST", f"/jobs/{ID}/replay", self.replay),
            ("POST", f"/jobs/{ID}/cancel", self.cancel),
            ("POST", f"/queues/{KIND}/pause", partial(self.pause, paused=True)),
            ("POST", f"/queues/{KIND}/resume", partial(self.pause, paused=False)),
        ]


def application(desk: Desk) -> App:
    routes = [(method, re.compile(path), handler) for method, path, handler in desk.routes()]

    def serve(request: Request) -> Response:
        if refused := desk.access.refusal(request):
            return refused
        method = "GET" if request.method == "HEAD" else request.method
        matches = [(its, found, handler) for its, path, handler in routes if (found := path.fullmatch(request.path))]
        for its, found, handler in matches:
            if its == method:
                return _answered(handler, request, found.groups())
        return problem(405 if matches else 404, "There is nothing under this path.")

    return serve


def _answered(handler: Handler, request: Request, parts: tuple[str, ...]) -> Response:
    try:
        return handler(request, *parts)
    except actions.NotThere as error:
        return problem(404, str(error))
    except actions.NotAccepted as error:
        return problem(502, str(error))
    except Unreachable as error:
        return problem(503, str(error))
    except ValueError:
        return problem(400, "This request was not understood.")


def _word(status_code: int) -> Response:
    return Response(status_code, {200: b"ok", 204: b""}.get(status_code, b"no"))


def _wish(body: bytes) -> Mapping[str, Any]:
    wish = json.loads(body or b"{}")
    if not isinstance(wish, dict):
        raise ValueError("no object")
    return wish
