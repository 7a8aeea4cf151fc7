"""Stored objects: their bytes in files of a folder, what is known of them in a table."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from pathlib import Path

from workers.local.supabase.answers import ApiError, storage_error
from workers.local.supabase.buckets import Bucket
from workers.local.supabase.database import Database, Row, now


class ObjectStore:
    """Everything in the buckets. Raises `ApiError` with the true service's texts."""

    def __init__(self, database: Database, folder: Path, buckets: Mapping[str, Bucket]) -> None:
        self._database = database
        self._folder = folder
        self.buckets = buckets

    def put(self, bucket: str, path: str, data: bytes, content_type: str, *, upsert: bool) -> Row:
        kept = self.bucket(bucket)
        essence = content_type.partition(";")[0].strip().lower()
        if essence not in kept.content_types:
            raise storage_error(415, "invalid_mime_type", f"mime type {essence} is not supported")
        if len(data) > kept.limit:
            raise storage_error(413, "Payload too large", "The object exceeded the maximum allowed size")
        old = self.find(bucket, path)
        if old is not None and not upsert:
            raise storage_error(409, "Duplicate", "The resource already exists")
        return self._write(bucket, path, data, essence, old)

    def get(self, bucket: str, path: str) -> Row:
        self.bucket(bucket)
        found = self.find(bucket, path)
        if found is None:
            raise missing()
        return found

    def find(self, bucket: str, path: str) -> Row | None:
        return next(iter(self._database.select("objects", {"bucket": bucket, "path": path})), None)

    def list(self, bucket: str | None = None) -> list[Row]:
        where = None if bucket is None else {"bucket": bucket}
        return self._database.select("objects", where, tail="ORDER BY bucket, path")

    def delete(self, bucket: str, path: str) -> Row | None:
        """What was removed, None where nothing was."""
        self.bucket(bucket)
        found = self.find(bucket, path)
        if found is not None:
            self._database.delete("objects", {"id": found["id"]})
            self.file(found).unlink(missing_ok=True)
        return found

    def file(self, row: Row) -> Path:
        return self._folder / str(row["id"])

    def place(self, bucket: str, path: str) -> Path:
        """Where the bytes of an object lie."""
        return self.file(self.get(bucket, path))

    def clear(self) -> None:
        for row in self.list():
            self.file(row).unlink(missing_ok=True)

    def bucket(self, name: str) -> Bucket:
        try:
            return self.buckets[name]
        except KeyError:
            raise storage_error(404, "Bucket not found", "Bucket not found") from None

    def _write(self, bucket: str, path: str, data: bytes, content_type: str, old: Row | None) -> Row:
        moment = now()
        row = {
            "id": old["id"] if old else str(uuid.uuid4()),
            "bucket": bucket,
            "path": path,
            "content_type": content_type,
            "size": len(data),
            "etag": hashlib.md5(data, usedforsecurity=False).hexdigest(),
            "created_at": old["created_at"] if old else moment,
            "updated_at": moment,
        }
        self.file(row).write_bytes(data)
        if old is not None:
            self._database.delete("objects", {"id": old["id"]})
        self._database.insert("objects", row)
        return row


def missing() -> ApiError:
    return storage_error(404, "not_found", "Object not found")
