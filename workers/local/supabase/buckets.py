"""The private buckets of the deployment: one per job type, one that newer deployments use for all, one for uploads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workers.job import Preset
from workers.references.places import UPLOADS

IMAGES = ("image/png", "image/jpeg", "image/webp")
CLIPS = ("video/mp4",)
PLAIN_CLIPS = (*CLIPS, "video/webm", "video/mpeg", "video/quicktime")
SHARED = "workspace-temp"
GIBIBYTE = 2**30
UPLOADS_LIMIT = 20 * 2**20


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a bucket takes: content types, and sizes up to `limit` bytes."""

    name: str
    limit: int
    content_types: tuple[str, ...]


def buckets_of(presets: Mapping[str, Preset]) -> dict[str, Bucket]:
    found = [Bucket(preset.type, preset.bucket_limit, _content_types(preset)) for preset in presets.values()]
    others = [Bucket(SHARED, GIBIBYTE, (*IMAGES, *CLIPS)), Bucket(UPLOADS, UPLOADS_LIMIT, IMAGES)]
    return {bucket.name: bucket for bucket in [*found, *others]}


def _content_types(preset: Preset) -> tuple[str, ...]:
    if preset.media == "image":
        return IMAGES
    return CLIPS if preset.enhance else PLAIN_CLIPS
