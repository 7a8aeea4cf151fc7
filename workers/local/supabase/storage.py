"""`/storage/v1`: upload, download, sign, list and remove, with the answers of the true service."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from workers.local.supabase.answers import storage_error, unauthorized
from workers.local.supabase.buckets import Bucket
from workers.local.supabase.database import Row
from workers.local.supabase.keys import Caller, Keys
from workers.local.supabase.objects import ObjectStore, missing

ROOT = "/storage/v1"


@dataclass(frozen=True, slots=True)
class Put:
    """One object as it was written. `etag` names its bytes, `sender` is a user agent, `at` the epoch in seconds."""

    bucket: str
    path: str
    etag: str
    sender: str
    at: float


class StorageApi:
    def __init__(self, store: ObjectStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self.seen: list[Put] = []

    def routes(self) -> list[Route]:
        one = "/{bucket}/{path:path}"
        handlers = [
            (f"/object/sign{one}", self.sign, ["POST"]),
            (f"/object/sign{one}", self.download_signed, ["GET"]),
            ("/object/sign/{bucket}", self.sign_many, ["POST"]),
            ("/object/list/{bucket}", self.list, ["POST"]),
            (f"/object/info{one}", self.info, ["GET"]),
            (f"/object/public{one}", self.download_public, ["GET"]),
            (f"/object/authenticated{one}", self.download, ["GET"]),
            (f"/object{one}", self.upload, ["POST", "PUT"]),
            (f"/object{one}", self.download, ["GET"]),
            (f"/object{one}", self.remove, ["DELETE"]),
            ("/object/{bucket}", self.remove_many, ["DELETE"]),
            ("/bucket", self.buckets, ["GET"]),
            ("/bucket/{bucket}", self.bucket, ["GET"]),
        ]
        return [Route(ROOT + path, handler, methods=methods) for path, handler, methods in handlers]

    async def upload(self, request: Request) -> Response:
        """POST makes a new object, or with `x-upsert: true` writes over one; PUT writes over one that is there."""
        bucket, path = self._admit(request)
        data, content_type = _body_of(await request.body(), request.headers.get("content-type", ""))
        replaces = request.method == "PUT"
        if replaces:
            self._store.get(bucket, path)
        upsert = replaces or request.headers.get("x-upsert", "").lower() == "true"
        row = self._store.put(bucket, path, data, content_type, upsert=upsert)
        self.seen.append(Put(bucket, path, row["etag"], request.headers.get("user-agent", ""), time.time()))
        return JSONResponse({"Key": f"{bucket}/{path}", "Id": row["id"]})

    async def download(self, request: Request) -> Response:
        return self._file(*self._admit(request))

    async def download_public(self, request: Request) -> Response:
        raise storage_error(404, "Bucket not found", "Bucket not found")

    async def info(self, request: Request) -> Response:
        return JSONResponse(_described(self._store.get(*self._admit(request))))

    async def remove(self, request: Request) -> Response:
        if self._store.delete(*self._admit(request)) is None:
            raise missing()
        return JSONResponse({"message": "Successfully deleted"})

    async def remove_many(self, request: Request) -> Response:
        bucket, caller = request.path_params["bucket"], self._keys.caller(request.headers)
        paths = [path for path in (await request.json())["prefixes"] if caller.may_touch(path)]
        removed = [self._store.delete(bucket, path) for path in paths]
        return JSONResponse([_described(row) for row in removed if row is not None])

    async def sign(self, request: Request) -> Response:
        bucket, path = self._admit(request)
        self._store.get(bucket, path)
        return JSONResponse({"signedURL": self.signed(bucket, path, (await request.json())["expiresIn"])})

    async def sign_many(self, request: Request) -> Response:
        body, bucket = await request.json(), request.path_params["bucket"]
        caller = self._keys.caller(request.headers)
        self._store.bucket(bucket)
        return JSONResponse([self._signed_entry(caller, bucket, path, body["expiresIn"]) for path in body["paths"]])

    async def download_signed(self, request: Request) -> Response:
        place = request.path_params["bucket"], request.path_params["path"]
        claims = self._keys.read(request.query_params.get("token", ""))
        if claims is None or claims.get("url") != "/".join(place):
            raise storage_error(400, "InvalidJWT", "jwt expired or not of this object")
        return self._file(*place)

    async def list(self, request: Request) -> Response:
        bucket, caller = request.path_params["bucket"], self._keys.caller(request.headers)
        self._store.bucket(bucket)
        body = await request.json()
        rows = [row for row in self._store.list(bucket) if caller.may_touch(row["path"])]
        entries = _entries(rows, str(body.get("prefix") or ""))
        start = int(body.get("offset") or 0)
        return JSONResponse(entries[start : start + int(body.get("limit") or 100)])

    async def buckets(self, request: Request) -> Response:
        self._keys.caller(request.headers)
        return JSONResponse([_described_bucket(bucket) for bucket in self._store.buckets.values()])

    async def bucket(self, request: Request) -> Response:
        self._keys.caller(request.headers)
        return JSONResponse(_described_bucket(self._store.bucket(request.path_params["bucket"])))

    def signed(self, bucket: str, path: str, seconds: float) -> str:
        """A download address below `/storage/v1` for whoever has it."""
        token = self._keys.sign({"url": f"{bucket}/{path}"}, float(seconds))
        return f"/object/sign/{bucket}/{path}?token={token}"

    def _signed_entry(self, caller: Caller, bucket: str, path: str, seconds: float) -> dict[str, Any]:
        if caller.may_touch(path) and self._store.find(bucket, path):
            return {"error": None, "path": path, "signedURL": self.signed(bucket, path, seconds)}
        return {"error": "Either the object does not exist or you do not have access to it", "path": path} | {
            "signedURL": None
        }

    def _admit(self, request: Request) -> tuple[str, str]:
        """Bucket and path of a request whose sender may touch them."""
        caller = self._keys.caller(request.headers)
        bucket, path = request.path_params["bucket"], request.path_params["path"]
        if not all(segment not in ("", ".", "..") for segment in path.split("/")):
            raise storage_error(400, "InvalidKey", f"Invalid key: {path}")
        if not caller.may_touch(path):
            raise missing() if request.method == "GET" else unauthorized("new row violates row-level security policy")
        return bucket, path

    def _file(self, bucket: str, path: str) -> Response:
        row = self._store.get(bucket, path)
        return FileResponse(self._store.file(row), media_type=row["content_type"])


def _body_of(body: bytes, content_type: str) -> tuple[bytes, str]:
    """The object and its type, sent raw or as the form in which the official clients send it."""
    header = Message()
    header["Content-Type"] = content_type or "application/octet-stream"
    if header.get_content_type() != "multipart/form-data":
        return body, content_type
    for part in (b"\r\n" + body).split(b"\r\n--" + str(header.get_boundary()).encode())[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        named = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n") if b":" in line)
        if b"filename=" in named.get(b"content-disposition", b""):
            return data, named.get(b"content-type", b"text/plain").strip().decode()
    raise storage_error(400, "InvalidRequest", "no file in the form")


def _entries(rows: list[Row], prefix: str) -> list[dict[str, Any]]:
    """Files and folders directly below a folder."""
    base = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    below = [(row["path"].removeprefix(base), row) for row in rows if row["path"].startswith(base)]
    folders = sorted({name.partition("/")[0] for name, _ in below if "/" in name})
    found: list[dict[str, Any]] = [{"name": name, "id": None, "metadata": None} for name in folders]
    return found + [_described(row) | {"name": name} for name, row in below if "/" not in name]


def _described(row: Row) -> dict[str, Any]:
    facts = {"eTag": f'"{row["etag"]}"', "size": row["size"], "mimetype": row["content_type"]}
    times: Mapping[str, Any] = {name: row[name] for name in ("created_at", "updated_at")}
    return {"name": row["path"], "bucket_id": row["bucket"], "id": row["id"], **times, "metadata": facts}


def _described_bucket(bucket: Bucket) -> dict[str, Any]:
    limits = {"file_size_limit": bucket.limit, "allowed_mime_types": list(bucket.content_types)}
    return {"id": bucket.name, "name": bucket.name, "public": False, **limits}
