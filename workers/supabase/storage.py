"""Artifacts become objects in Supabase Storage."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import httpx
from storage3 import SyncStorageClient

from workers.errors import Rejected, Unreachable
from workers.job import Artifact, Delivery
from workers.supabase.web import auth_headers, fenced, passes, reaching, retry_after, true_status
from workers.trust import trusted

SHARED_BUCKET = "workspace-temp"
MOST_ASSETS = 6
ENDINGS = ("png", "webp", "mp4", "thumb.webp")
PARALLEL = 8
LOCKED = 423
NO_PLACE = "The result has no valid place in storage."
_PLACE = re.compile(r"object/[\w-]+/[\w-]+/[\w-]+/\d+(\.thumb)?\.\w+", re.ASCII)
_BROKEN_CONNECTION = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)


class Refused(Rejected):
    """Storage will not take this object however often it is sent."""


class SupabaseStorage:
    """The buckets of one Supabase project. One instance serves all threads.

    In the dialect `paths` a bucket is named after its job type; in `objects` there is one for all, with thumbnails.
    `timeout` is how long the service may keep silent, in seconds.
    """

    def __init__(
        self, url: str, key: str, *, dialect: Literal["paths", "objects"] = "paths", timeout: float = 60.0
    ) -> None:
        self._base = url.rstrip("/") + "/storage/v1/"
        self._dialect = dialect
        headers = auth_headers(key)
        self._kept = _client(headers, timeout, idle=PARALLEL)
        self._fresh = _client(headers, timeout, idle=0)
        self._service = SyncStorageClient(self._base, headers, http_client=self._kept)

    def put(self, artifact: Artifact, job_type: str, user_id: str, job_id: str) -> Delivery:
        """Upload one asset, over what may be there. Raises `Unreachable` or `Refused`; `OSError` of the file."""
        bucket = self._bucket(job_type)
        stem = f"{user_id}/{job_id}/{artifact.index}"
        path = f"{stem}.{artifact.extension}"
        self._upload(artifact.path, bucket, path, artifact.content_type)
        thumbnail_path = None
        if artifact.thumbnail is not None and self._dialect == "objects":
            thumbnail_path = f"{stem}.thumb.webp"
            self._upload(artifact.thumbnail, bucket, thumbnail_path, "image/webp")
        return Delivery(
            index=artifact.index,
            bucket=bucket,
            path=path,
            content_type=artifact.content_type,
            size=artifact.size,
            frames=artifact.frames,
            seed=artifact.seed,
            bytes=artifact.path.stat().st_size,
            thumbnail_path=thumbnail_path,
        )

    def delete(self, deliveries: Iterable[Delivery]) -> None:
        """Remove the objects of a job; those that are gone already do not matter. Raises as `put`."""
        paths: dict[str, list[str]] = defaultdict(list)
        for delivery in deliveries:
            paths[delivery.bucket] += [p for p in (delivery.path, delivery.thumbnail_path) if p]
        for bucket, of_bucket in paths.items():
            with reaching("storage"):
                self._service.from_(bucket).remove(of_bucket)

    def clear(self, job_type: str, user_id: str, job_id: str) -> None:
        """Remove whatever an attempt at this job may have left: its names are known. Raises as `put`."""
        stems = [f"{user_id}/{job_id}/{index}" for index in range(MOST_ASSETS)]
        paths = [f"{stem}.{ending}" for stem in stems for ending in ENDINGS]
        if not all(_PLACE.fullmatch(f"object/{self._bucket(job_type)}/{path}") for path in paths):
            return
        with reaching("storage"):
            self._service.from_(self._bucket(job_type)).remove(paths)

    def close(self) -> None:
        self._kept.close()
        self._fresh.close()

    def _bucket(self, job_type: str) -> str:
        return SHARED_BUCKET if self._dialect == "objects" else job_type

    def _upload(self, file: Path, bucket: str, path: str, content_type: str) -> None:
        """After an early refusal a kept connection can be dead without showing it: then once more on a new one."""
        place = f"object/{bucket}/{path}"
        if not _PLACE.fullmatch(place):
            raise Refused(NO_PLACE, code="failed")
        with reaching("storage"):
            try:
                self._post(self._kept, file, place, content_type)
            except _BROKEN_CONNECTION:
                self._post(self._fresh, file, place, content_type)

    def _post(self, client: httpx.Client, file: Path, place: str, content_type: str) -> None:
        """The raw bytes as body, streamed from the file; the package's own upload sends a form instead."""
        headers = {"Content-Type": content_type, "x-upsert": "true"}
        with file.open("rb") as body:
            request = client.build_request("POST", self._base + place, content=body, headers=headers)
            if request.url.raw_path != httpx.URL(self._base).raw_path + place.encode():
                raise Refused(NO_PLACE, code="failed")  # dot segments, folded, lead into another user's folder
            client.send(request)


def _client(headers: dict[str, str], timeout: float, *, idle: int) -> httpx.Client:
    return httpx.Client(
        headers=headers,
        timeout=httpx.Timeout(timeout, connect=5.0),
        verify=trusted(),
        limits=httpx.Limits(max_connections=2 * PARALLEL, max_keepalive_connections=idle),
        http2=False,
        event_hooks={"request": [fenced], "response": [_raise_unless_done]},
    )


def _raise_unless_done(response: httpx.Response) -> None:
    if response.is_success:
        return
    response.read()
    status = true_status(response)
    if status in (401, 403):
        raise Unreachable(f"storage refused the service key ({status})", denied=True)
    if passes(status) or status == LOCKED:
        raise Unreachable(f"storage answered {status}", retry_after=retry_after(response.headers))
    raise Refused(f"The result could not be stored (error {status}).", code="failed")
