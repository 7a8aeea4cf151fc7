"""`functions/v1/queue-job`: a request becomes rows and an element of a queue."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import httpx
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from workers.job import Preset
from workers.local.supabase.answers import function_error, json_object
from workers.local.supabase.database import Database, Row, now
from workers.local.supabase.keys import Keys
from workers.local.supabase.payloads import Request, july, metadata_of, newest

Dialect = Literal["paths", "objects"]
DEMO_USER = "11111111-1111-4111-8111-111111111111"


@dataclass(slots=True)
class Switches:
    """What tests turn. Times in seconds after queueing.

    `link_after`: when the browser links the image or video to its job, None for not before `link` is called.
    `rows_after`: when the rows of a batch beyond the first appear.
    """

    link_after: float | None = 0.0
    rows_after: float = 0.0


class QueueClient:
    """The queue as the edge functions reach it: over the REST service."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    async def push(self, queue: str, element: str, dialect: Dialect) -> int:
        """The length of the queue. July pushes at the left, the newest function at the right."""
        command = "lpush" if dialect == "paths" else "rpush"
        answer = await self._http.post(f"/{command}/{queue}", content=element.encode())
        return int(answer.raise_for_status().json()["result"])

    async def close(self) -> None:
        await self._http.aclose()


@dataclass(frozen=True, slots=True)
class QueueJob:
    database: Database
    keys: Keys
    queue: QueueClient
    presets: Mapping[str, Preset]
    switches: Switches
    dialect: Dialect

    async def handle(self, http: HttpRequest) -> Response:
        user_id = self.keys.caller(http.headers).user_id or DEMO_USER
        request = self._accept(await json_object(http), user_id)
        self._insert(request)
        element = (july if self.dialect == "paths" else newest)(request)
        try:
            length = await self.queue.push(request.queue, element, self.dialect)
        except httpx.HTTPError:
            raise function_error("Failed to queue job", 500) from None
        (job,) = self.database.select("jobs", {"id": request.job_id})
        return JSONResponse({"success": True, "job": job, "queueLength": length, "message": "Job queued successfully"})

    def link(self, job_id: str) -> None:
        """Do what the browser does after queueing: tell the job which image or video it makes."""
        for table, column in (("images", "image_id"), ("videos", "video_id")):
            for row in self.database.select(table, {"job_id": job_id}, tail="ORDER BY rowid LIMIT 1"):
                self.database.update("jobs", {"id": job_id}, {column: row["id"]})

    def _accept(self, body: Mapping[str, Any], user_id: str) -> Request:
        job_type = body.get("jobType") or body.get("job_type")
        if job_type not in self.presets:
            raise function_error(f"Invalid job type: {job_type}")
        return Request(
            job_id=str(uuid.uuid4()),
            user_id=user_id,
            preset=self.presets[str(job_type)],
            prompt=str(body.get("prompt") or ""),
            metadata=body.get("metadata") or {},
            config=body.get("config") or {},
            image_id=body.get("imageId"),
            video_id=body.get("videoId"),
            character_id=body.get("characterId"),
        )

    def _insert(self, request: Request) -> None:
        self.database.insert(
            "jobs",
            {
                "id": request.job_id,
                "user_id": request.user_id,
                "job_type": request.preset.type,
                "image_id": request.image_id,
                "video_id": request.video_id,
                "metadata": {**metadata_of(request), "prompt": request.prompt},
                "created_at": now(),
            },
        )
        if self.dialect == "paths":
            self._insert_media(request)

    def _insert_media(self, request: Request) -> None:
        first, *others = _media_rows(request)
        table = "videos" if request.preset.media == "video" else "images"
        self.database.insert(table, first)
        for row in others:
            _later(self.switches.rows_after, partial(self.database.insert, table, row))
        if self.switches.link_after is not None and not (request.image_id or request.video_id):
            _later(self.switches.link_after, partial(self.link, request.job_id))


def _media_rows(request: Request) -> list[Row]:
    """The rows that the result will fill. Only a batch numbers its images: a single one has no index."""
    common = {"user_id": request.user_id, "job_id": request.job_id, "prompt": request.prompt, "created_at": now()}
    if request.preset.media == "video":
        return [{"id": request.video_id or str(uuid.uuid4()), **common}]
    numbered = request.preset.kind == "sdxl"
    ids = [request.image_id or str(uuid.uuid4()), *(str(uuid.uuid4()) for _ in range(request.images - 1))]
    return [{"id": id_, "image_index": i if numbered else None, **common} for i, id_ in enumerate(ids)]


def _later(seconds: float, action: Callable[[], object]) -> None:
    if seconds > 0:
        asyncio.get_running_loop().call_later(seconds, action)
    else:
        action()
