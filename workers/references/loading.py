"""A job's references, brought in: located, fetched, decoded, and known by their hash."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import httpx

from workers.errors import Rejected, Unreachable
from workers.job import Picture, Reference, SamplingParams
from workers.references import picture
from workers.references.fetch import ABSENT, TIME_LIMIT, Doors, download, too_large
from workers.references.guide import REFERENCE
from workers.references.places import Stored, locate
from workers.supabase.web import auth_headers, passes, reaching, true_status
from workers.trust import trusted

PICTURE_BYTES = 20_000_000
CLIP_BYTES = 50_000_000


class References:
    """Fetches from our own storage with the service key, and from `hosts` without any key.

    `own` is the address of the Supabase project. Of it nothing is read but objects below the user's own folder.
    """

    def __init__(self, own: str, key: str, hosts: frozenset[str], doors: Doors | None = None) -> None:
        self._own, self._hosts, self._doors = own.rstrip("/"), hosts, doors or Doors()
        timeout = httpx.Timeout(TIME_LIMIT, connect=5.0)
        headers = auth_headers(key) | {"Accept-Encoding": "identity"}
        self._http = httpx.Client(headers=headers, timeout=timeout, verify=trusted())

    def collect(self, wanted: Sequence[Reference], user_id: str, clip: SamplingParams | None) -> dict[str, Picture]:
        """Pictures by role; with `clip` the reference itself may be one, at most as long and of the same size.

        Raises `Rejected` with a sentence and the field, `Unreachable` where another try may do better.
        """
        return {one.role: self._one(one, user_id, clip if one.role == REFERENCE else None) for one in wanted}

    def close(self) -> None:
        self._http.close()

    def _one(self, reference: Reference, user_id: str, clip: SamplingParams | None) -> Picture:
        try:
            data = self._bytes(reference.url, user_id, CLIP_BYTES if clip else PICTURE_BYTES)
            if clip and picture.is_clip(data):
                return picture.decode_clip(data, clip.frames, (clip.width, clip.height))
            if len(data) > PICTURE_BYTES:
                raise too_large(PICTURE_BYTES)
            return picture.decode(data)
        except Rejected as error:
            raise Rejected(error.sentence, field=reference.role) from None

    def _bytes(self, url: str, user_id: str, limit: int) -> bytes:
        place = locate(url, user_id, self._own, self._hosts)
        if isinstance(place, Stored):
            return self._stored(place, limit)
        return download(place, limit, self._doors)

    def _stored(self, place: Stored, limit: int) -> bytes:
        target = f"/storage/v1/object/{place.bucket}/{quote(place.path)}"
        request = self._http.build_request("GET", self._own + target)
        if request.url.raw_path != httpx.URL(self._own).raw_path.rstrip(b"/") + target.encode():
            raise Rejected(ABSENT)
        with reaching("storage"):
            response = self._http.send(request, stream=True)
            try:
                return b"".join(_bounded(response, limit))
            finally:
                response.close()


def _bounded(response: httpx.Response, limit: int) -> Iterator[bytes]:
    """The body, read no further than the limit and not for longer than the time limit."""
    deadline, size = time.monotonic() + TIME_LIMIT, 0
    _check(response)
    if int(response.headers.get("content-length", 0)) > limit:
        raise too_large(limit)
    for piece in response.iter_raw():
        size += len(piece)
        if size > limit:
            raise too_large(limit)
        if time.monotonic() > deadline:
            raise Unreachable("storage sent a reference too slowly")
        yield piece


def _check(response: httpx.Response) -> None:
    if response.status_code == 200:
        return
    response.read()
    status = true_status(response)
    if status >= 400 and passes(status):
        raise Unreachable(f"storage answered {status} to a reference")
    if status in (401, 403):
        raise Unreachable(f"storage refused the service key ({status})", denied=True)
    raise Rejected(ABSENT)
