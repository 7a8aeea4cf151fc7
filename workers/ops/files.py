"""Delivered files for the page: fetched from storage with our key, since the page talks to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import httpx

from workers.ops.web import Response, problem
from workers.settings import Settings
from workers.supabase.web import auth_headers
from workers.supervision.ledger import File
from workers.trust import trusted

SHOWN = frozenset({"image/png", "image/jpeg", "image/webp", "video/mp4"})
THUMBNAIL = "image/webp"
PIECE = 65_536
KEEP = {"Cache-Control": "private, max-age=3600", "Content-Security-Policy": "sandbox; default-src 'none'"}
PASSED_ON = ("content-length", "content-range", "accept-ranges", "etag")


def fetch(settings: Settings, file: File, *, thumbnail: bool, wanted: str | None) -> Response:
    """One object, as it comes. `wanted` is the client's Range, which players of clips need."""
    path = (file.thumbnail or file.path) if thumbnail else file.path
    content_type = THUMBNAIL if path == file.thumbnail else file.content_type
    if content_type not in SHOWN:
        return problem(415, "This file is neither a picture nor a clip.")
    headers = auth_headers(settings.supabase_service_key.get_secret_value())
    http = httpx.Client(headers=headers, timeout=20, verify=trusted())
    address = f"{settings.supabase_url}/storage/v1/object/{quote(file.bucket)}/{quote(path)}"
    request = http.build_request("GET", address, headers={"Range": wanted} if wanted else {})
    try:
        answer = http.send(request, stream=True)
    except httpx.HTTPError:
        http.close()
        return problem(502, "Storage did not answer.")
    if not answer.is_success:
        answer.close()
        http.close()
        return problem(404, "Storage does not give this file any more.")
    headers = {name.title(): answer.headers[name] for name in PASSED_ON if name in answer.headers}
    pieces = _pieces(http, answer)
    return Response(answer.status_code, content_type=content_type, headers=KEEP | headers, pieces=pieces)


def _pieces(http: httpx.Client, answer: httpx.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_raw(PIECE)
    finally:
        answer.close()
        http.close()
