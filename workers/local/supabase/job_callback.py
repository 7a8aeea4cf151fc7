"""`functions/v1/job-callback`: how a worker's word becomes rows, in July's form and in the newest one."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from workers.local.supabase.answers import ApiError, function_error, json_object
from workers.local.supabase.database import Database, Row, now
from workers.local.supabase.keys import Keys
from workers.local.supabase.queue_job import Dialect

TERMINAL = ("completed", "failed")


@dataclass(frozen=True, slots=True)
class Callback:
    """One callback as it came. `at` is the epoch in seconds, `answer` the HTTP status that it got."""

    job_id: str
    status: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    at: float
    answer: int


class JobCallback:
    """The function in one dialect. `secret` signs callbacks; only the dialect `objects` insists on it."""

    def __init__(self, database: Database, keys: Keys, dialect: Dialect, secret: str) -> None:
        self._database = database
        self._keys = keys
        self._dialect = dialect
        self._secret = secret
        self._receive: Callable[[Mapping[str, Any]], Row] = self._paths if dialect == "paths" else self._objects
        self.seen: list[Callback] = []

    async def handle(self, request: Request) -> Response:
        body: dict[str, Any] = {}
        try:
            self._keys.caller(request.headers)
            body = await json_object(request)
            self._verify(await request.body(), request.headers.get("x-callback-signature", ""))
            status, answer = 200, self._receive(body)
        except ApiError as error:
            status, answer = error.status, error.body
        self._record(body, request.headers, status)
        return JSONResponse(answer, status)

    def _record(self, body: Mapping[str, Any], headers: Mapping[str, str], answer: int) -> None:
        job_id, status = str(body.get("job_id") or body.get("jobId") or ""), str(body.get("status") or "")
        self.seen.append(Callback(job_id, status, body, dict(headers), time.time(), answer))

    def _verify(self, content: bytes, signature: str) -> None:
        expected = "sha256=" + hmac.new(self._secret.encode(), content, hashlib.sha256).hexdigest()
        if self._dialect == "objects" and not hmac.compare_digest(signature.encode(), expected.encode()):
            raise function_error("Invalid callback signature", 401)

    def _job(self, body: Mapping[str, Any]) -> Row:
        if not body.get("job_id"):
            raise function_error("job_id is required")
        rows = self._database.select("jobs", {"id": str(body["job_id"])})
        if not rows:
            raise function_error("JSON object requested, multiple (or no) rows returned")
        return rows[0]

    def _paths(self, body: Mapping[str, Any]) -> Row:
        """July's way. It has no guard: a late `processing` reopens a job. Rows of a batch are found by position."""
        job, assets = self._job(body), body.get("assets") or []
        if not all(isinstance(asset, str) for asset in assets):
            raise function_error("asset.startsWith is not a function")
        self._end_job(job, body, terminal_only=True)
        if body.get("status") == "completed":
            self._fill(job, assets, body)
        elif body.get("status") == "failed":
            self._fail(job, body)
        return {"success": True, "message": "Job callback processed successfully"}

    def _objects(self, body: Mapping[str, Any]) -> Row:
        """The newest way. A completed job stays as it is; what is no object with an address is silently lost."""
        job = self._job(body)
        if job["status"] in TERMINAL:
            return {"success": True, "skipped": True}
        assets = body["assets"] if "assets" in body else (body.get("results") or {}).get("assets")
        self._end_job(job, body, terminal_only=False)
        for asset in assets or []:
            if isinstance(asset, dict) and asset.get("url"):
                self._database.insert("workspace_assets", _asset_row(job, asset))
        return {"success": True}

    def _end_job(self, job: Row, body: Mapping[str, Any], *, terminal_only: bool) -> None:
        status = body.get("status")
        ended = status in TERMINAL or not terminal_only
        changes = {
            "status": status,
            "error_message": body.get("error_message") or body.get("errorMessage"),
            "metadata": {**job["metadata"], **(body.get("metadata") or {}), "prompt": job["metadata"]["prompt"]},
            "started_at": job["started_at"] or now(),
            "completed_at": now() if ended else job["completed_at"],
        }
        try:
            self._database.update("jobs", {"id": job["id"]}, changes)
        except sqlite3.IntegrityError as error:
            raise function_error(str(error)) from None

    def _fill(self, job: Row, assets: list[str], body: Mapping[str, Any]) -> None:
        enhanced = {"enhanced_prompt": body["enhancedPrompt"]} if body.get("enhancedPrompt") else {}
        for index, path in enumerate(assets):
            filled = {"status": "completed", "image_url": path, "updated_at": now(), **enhanced}
            self._database.update("images", {"job_id": job["id"], "image_index": index}, filled)
        if job["video_id"] and assets:
            filled = {"status": "completed", "video_url": assets[0], "completed_at": now(), **enhanced}
            self._database.update("videos", {"id": job["video_id"]}, filled)

    def _fail(self, job: Row, body: Mapping[str, Any]) -> None:
        sentence = body.get("error_message") or body.get("errorMessage")
        for index in range(len(self._database.select("images", {"job_id": job["id"]}))):
            self._database.update("images", {"job_id": job["id"], "image_index": index}, {"status": "failed"})
        self._database.update("videos", {"id": job["video_id"]}, {"status": "failed", "error_message": sentence})


def redacted(callback: Callback) -> dict[str, Any]:
    """The callback as JSON, with the headers that carry keys emptied."""
    headers = {k: "…" if k in ("authorization", "apikey") else v for k, v in callback.headers.items()}
    record = {"job_id": callback.job_id, "status": callback.status, "at": callback.at, "answer": callback.answer}
    return {**record, "headers": headers, "body": json.loads(json.dumps(callback.body))}


def _asset_row(job: Row, asset: Mapping[str, Any]) -> Row:
    return {
        "id": str(uuid.uuid4()),
        "user_id": job["user_id"],
        "job_id": job["id"],
        "asset_type": asset.get("type", "image"),
        "temp_storage_path": asset["url"],
        "thumbnail_path": asset.get("thumbnail_url"),
        "metadata": asset.get("metadata") or {},
        "created_at": now(),
    }
