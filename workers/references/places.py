"""Where a reference may lie: in the user's own folder of our storage, or on a host that the deployment allows.

An address came with the payload, so it is matched, not parsed: what has more than one reading fits no pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from workers.errors import Rejected

MAX_ADDRESS = 2048
UPLOADS = "reference_images"
"""The bucket of a path that names none."""

ELSEWHERE = "The reference image must lie in your own folder of this service."

_TARGET = r"(?::443)?(/[\w.~!$&'()*+,;=:@%/-]*)(\?[\w.~!$&'()*+,;=:@%/?-]*)?"
_ADDRESS = re.compile(r"https://([a-z0-9.-]+)" + _TARGET, re.ASCII)
_IN_STORAGE = re.compile(r"/storage/v1/object/(?:sign|public)/([\w-]+)/([^/]+)/(.+)", re.ASCII)
_STORAGE = "/storage/"
_BUCKET = re.compile(r"[\w-]+", re.ASCII)
_AMBIGUOUS = re.compile(r"[/\\%\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of our own storage. `path` begins with the user's id and is not encoded."""

    bucket: str
    path: str


@dataclass(frozen=True, slots=True)
class Abroad:
    """An address on an allowed host; `target` is path and query as they go into a request."""

    host: str
    target: str


def locate(url: str, user_id: str, own: str, hosts: frozenset[str]) -> Stored | Abroad:
    """What an address can only mean. `own` is the address of our Supabase project, `hosts` are in lower case.

    An address in our storage counts as the path it names, so a token that has run out meanwhile does not matter.
    Raises `Rejected`.
    """
    if len(url) > MAX_ADDRESS:
        raise Rejected(ELSEWHERE)
    if "://" not in url:
        return _by_path(url, user_id)
    if at_home := re.fullmatch(re.escape(own) + _TARGET, url, re.ASCII):
        return _in_storage(at_home[1], user_id)
    abroad = _ADDRESS.fullmatch(url)
    if abroad is None or abroad[1] not in hosts or not all(map(_is_plain, abroad[2].split("/")[1:])):
        raise Rejected(ELSEWHERE)
    if abroad[2].startswith(_STORAGE):
        _in_storage(abroad[2], user_id)  # another door to somebody's storage
    return Abroad(abroad[1], abroad[2] + (abroad[3] or ""))


def _by_path(path: str, user_id: str) -> Stored:
    """`{bucket}/{user}/…`, or `{user}/…` in the bucket of uploads."""
    first, _, rest = path.partition("/")
    bucket, inside = (UPLOADS, path) if first == user_id else (first, rest)
    segments = inside.split("/")
    plain = all(part not in ("", ".", "..") and not _AMBIGUOUS.search(part) for part in segments)
    if not _BUCKET.fullmatch(bucket) or segments[0] != user_id or len(segments) < 2 or not plain:
        raise Rejected(ELSEWHERE)
    return Stored(bucket, inside)


def _in_storage(path: str, user_id: str) -> Stored:
    place = _IN_STORAGE.fullmatch(path)
    if place is None or place[2] != user_id or not all(map(_is_plain, path.split("/")[1:])):
        raise Rejected(ELSEWHERE)
    return Stored(place[1], f"{user_id}/{unquote(place[3])}")


def _is_plain(segment: str) -> bool:
    """Whether every server reads the same in it: no dot segment, no slash, nothing encoded twice."""
    try:
        text = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return False
    return text not in ("", ".", "..") and not _AMBIGUOUS.search(text)
