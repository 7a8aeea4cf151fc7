"""The double as a whole: one application, and what tests and the demo read from it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from workers.job import Preset
from workers.local.supabase.answers import ApiError, answer_error, function_error, json_object
from workers.local.supabase.buckets import buckets_of
from workers.local.supabase.database import Database, Row
from workers.local.supabase.job_callback import Callback, JobCallback, redacted
from workers.local.supabase.keys import KeyKind, Keys
from workers.local.supabase.objects import ObjectStore
from workers.local.supabase.queue_job import Dialect, QueueClient, QueueJob, Switches
from workers.local.supabase.rest import RestApi
from workers.local.supabase.results import Result, results_of
from workers.local.supabase.storage import Put, StorageApi


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a double is made of. `secret` signs callbacks in the dialect `objects`."""

    presets: Mapping[str, Preset]
    queue_url: str
    queue_token: str
    secret: str
    dialect: Dialect = "paths"
    key_kind: KeyKind = "legacy"


class Double:
    """The application. `switches` may be turned while it runs; its data live as long as it does."""

    def __init__(self, deployment: Deployment) -> None:
        self.keys = Keys(deployment.key_kind)
        self.switches = Switches()
        self.dialect = deployment.dialect
        self._database = Database(linking=deployment.dialect == "paths")
        self._folder = tempfile.TemporaryDirectory(prefix="objects-", ignore_cleanup_errors=True)
        self.store = ObjectStore(self._database, Path(self._folder.name), buckets_of(deployment.presets))
        self._storage = StorageApi(self.store, self.keys)
        self._queue = QueueClient(deployment.queue_url, deployment.queue_token)
        self._queue_job = QueueJob(
            self._database, self.keys, self._queue, deployment.presets, self.switches, deployment.dialect
        )
        self._callback = JobCallback(self._database, self.keys, deployment.dialect, deployment.secret)
        self._app = Starlette(routes=self._routes(), exception_handlers={ApiError: answer_error})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def callbacks(self, job_id: str | None = None) -> list[Callback]:
        """Every callback received, in order, refused ones included."""
        return [seen for seen in self._callback.seen if job_id in (None, seen.job_id)]

    def puts(self) -> list[Put]:
        """Every object written, in order, those included that were written over."""
        return list(self._storage.seen)

    def rows(self, table: str, **where: Any) -> list[Row]:
        """Rows of a table in the order in which they were made."""
        return self._database.select(table, where, tail="ORDER BY created_at, rowid")

    def read(self, bucket: str, path: str) -> bytes:
        """A stored object. Raises `ApiError` where there is none."""
        return self.store.place(bucket, path).read_bytes()

    def add(self, table: str, row: Row) -> None:
        """A row that another client of the database makes."""
        self._database.insert(table, row)

    def link(self, job_id: str) -> None:
        """The browser links the job to its image or video now."""
        self._queue_job.link(job_id)

    def forget(self, job_id: str) -> None:
        """The job's row is deleted, as users can do."""
        self._database.delete("jobs", {"id": job_id})

    def results(self) -> list[Result]:
        """All jobs, the newest first, with what was delivered for them."""
        return results_of(self.rows("jobs")[::-1], self.callbacks(), self.store)

    def reset(self) -> None:
        self.store.clear()
        self._database.clear()
        self._callback.seen.clear()
        self._storage.seen.clear()
        self.switches.link_after, self.switches.rows_after = 0.0, 0.0

    async def close(self) -> None:
        """Called in the serving loop when it ends; the data are gone then."""
        await self._queue.close()
        self._database.close()
        self._folder.cleanup()

    def _routes(self) -> list[Route]:
        own = [
            Route("/_double/callbacks", self._callbacks, methods=["GET"]),
            Route("/_double/switches", self._switch, methods=["GET", "POST"]),
            Route("/_double/link/{job_id}", self._link, methods=["POST"]),
            Route("/functions/v1/queue-job", self._queue_job.handle, methods=["POST"]),
            Route("/functions/v1/job-callback", self._callback.handle, methods=["POST"]),
        ]
        return [*own, *self._storage.routes(), *RestApi(self._database, self.keys).routes()]

    async def _callbacks(self, request: Request) -> Response:
        return JSONResponse([redacted(seen) for seen in self.callbacks(request.query_params.get("job_id"))])

    async def _switch(self, request: Request) -> Response:
        if request.method == "POST":
            wished = await json_object(request)
            if not wished.keys() <= asdict(self.switches).keys():
                raise function_error("Unknown switch")
            for name, value in wished.items():
                setattr(self.switches, name, value)
        return JSONResponse(asdict(self.switches))

    async def _link(self, request: Request) -> Response:
        self.link(request.path_params["job_id"])
        return Response(status_code=204)
