"""A job as the producers of July 2025 write it, for those who push one by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from workers.job import Preset, Size

SENT_SIZE = "480*832"
SENT_FRAMES: Mapping[str, int] = {"image": 1, "video": 83}
EXTENSIONS: Mapping[str, str] = {"image": "png", "video": "mp4"}
SENT_SAMPLING: Mapping[str, tuple[int, float]] = {"fast": (25, 6.5), "high": (50, 7.5)}
"""Steps and guidance, whatever the model: SDXL gets them too and goes by its presets."""

EXPECTED: Mapping[tuple[str, str], int] = {
    ("image", "fast"): 25,
    ("image", "high"): 40,
    ("video", "fast"): 135,
    ("video", "high"): 180,
}
"""Seconds that producers announce by media and quality. Workers do not read them."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one person asks for. None leaves the choice to the preset."""

    prompt: str
    images: int
    seed: int | None = None
    size: Size | None = None
    negative: str | None = None


def july_payload(order: Order, preset: Preset, *, job_id: str, user_id: str, model: str) -> dict[str, Any]:
    """One queue element, with every key that July sends and in its order. Only the seed is newer."""
    payload: dict[str, Any] = {
        "id": job_id,
        "type": preset.type,
        "prompt": order.prompt,
        "config": _config(order, preset),
        "user_id": user_id,
        "created_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    if order.negative is not None or not preset.samples_from_config:
        payload["negative_prompt"] = order.negative or ""
    return payload | {
        "character_id": None,
        "model_variant": model,
        "bucket": preset.type,
        "metadata": {"num_images": order.images, "credits": 1},
    }


def as_text(payload: Mapping[str, Any]) -> str:
    """The payload as producers serialise it."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _config(order: Order, preset: Preset) -> dict[str, Any]:
    steps, guidance = SENT_SAMPLING[preset.quality]
    sent: dict[str, Any] = {
        "size": SENT_SIZE,
        "sample_steps": steps,
        "sample_guide_scale": guidance,
        "sample_solver": "unipc",
        "sample_shift": 5,
        "frame_num": SENT_FRAMES[preset.media],
        "enhance_prompt": preset.enhance,
        "expected_time": EXPECTED[preset.media, preset.quality],
        "content_type": preset.media,
        "file_extension": EXTENSIONS[preset.media],
        "num_images": order.images,
    }
    return sent | _size(order, preset) | ({} if order.seed is None else {"seed": order.seed})


def _size(order: Order, preset: Preset) -> dict[str, Any]:
    """A model that ignores the July block is told its size by the later keys."""
    if order.size is None:
        return {}
    width, height = order.size
    return {"size": f"{width}*{height}"} if preset.samples_from_config else {"width": width, "height": height}
