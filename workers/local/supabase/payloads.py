"""Queue elements as the edge functions build them: July's form, and the newest one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.job import Preset
from workers.local.supabase.database import now

MODELS = {"sdxl": "lustify_sdxl", "wan": "wan_2_1_1_3b"}
EXPECTED_SECONDS = {
    "sdxl_image_fast": 25,
    "sdxl_image_high": 40,
    "image_fast": 73,
    "image_high": 90,
    "video_fast": 180,
    "video_high": 280,
    "image7b_fast_enhanced": 87,
    "image7b_high_enhanced": 100,
    "video7b_fast_enhanced": 195,
    "video7b_high_enhanced": 295,
}
NEGATIVE_PROMPT = (
    "bad anatomy, extra limbs, missing limbs, extra fingers, fused fingers, too many fingers, malformed hands, "
    "poorly drawn hands, poorly drawn face, deformed, disfigured, mutated, long neck, cross-eyed, asymmetric eyes, "
    "blurry, out of focus, low resolution, pixelated, jpeg artifacts, compression artifacts, noise, grain, banding, "
    "overexposed, underexposed, washed out, oversaturated, low contrast, bad composition, cropped, out of frame, "
    "duplicate, watermark, signature, text, logo, username, frame, border, worst quality, low quality, amateur"
)
"""Longer than the 77 tokens of one text encoder window, as the true one is."""


@dataclass(frozen=True, slots=True)
class Request:
    """One accepted call of `queue-job`. `config` is what a later client adds to the block that the server builds."""

    job_id: str
    user_id: str
    preset: Preset
    prompt: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    image_id: str | None = None
    video_id: str | None = None
    character_id: str | None = None

    @property
    def images(self) -> int:
        """How many pictures are asked for; a wrong wish passes, as it does in the true function."""
        if self.preset.kind != "sdxl":
            return 1
        return int(self.config.get("num_images") or self.metadata.get("num_images") or self.preset.outputs[-1])

    @property
    def queue(self) -> str:
        return f"{self.preset.kind}_queue"


def july(request: Request) -> str:
    """The element that July's function pushes: an object, with a video model's settings even for SDXL."""
    preset = request.preset
    payload: dict[str, Any] = {
        "id": request.job_id,
        "type": preset.type,
        "prompt": request.prompt,
        "config": july_config(request),
        "user_id": request.user_id,
        "created_at": now(),
    }
    if preset.kind == "sdxl":
        payload["negative_prompt"] = NEGATIVE_PROMPT
    payload |= _links(request)
    payload |= {
        "character_id": request.character_id,
        "model_variant": MODELS[preset.kind],
        "bucket": preset.type,
        "metadata": metadata_of(request),
    }
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))


def newest(request: Request) -> str:
    """The element that the newest function pushes: a list that holds the object as a string."""
    preset = request.preset
    payload = {
        "id": request.job_id,
        "job_id": request.job_id,
        "type": preset.type,
        "job_type": preset.type,
        "format": "png" if preset.media == "image" else "mp4",
        "prompt": request.prompt,
        "config": {"num_images": request.images, "content_type": "sfw", **request.config},
        "content_type": "sfw",
        "user_id": request.user_id,
        "created_at": now(),
        "model_variant": MODELS[preset.kind],
        "metadata": dict(request.metadata),
    }
    return json.dumps([json.dumps(payload, ensure_ascii=False)])


def july_config(request: Request) -> dict[str, Any]:
    preset = request.preset
    high = preset.quality == "high"
    return {
        "size": "480*832",
        "sample_steps": 50 if high else 25,
        "sample_guide_scale": 7.5 if high else 6.5,
        "sample_solver": "unipc",
        "sample_shift": 5,
        "frame_num": 83 if preset.media == "video" else 1,
        "enhance_prompt": preset.enhance,
        "expected_time": EXPECTED_SECONDS.get(preset.type, 60),
        "content_type": preset.media,
        "file_extension": "png" if preset.media == "image" else "mp4",
        "num_images": request.images,
        **request.config,
    }


def metadata_of(request: Request) -> dict[str, Any]:
    """The client's metadata, and over it what the edge function adds."""
    return {
        **request.metadata,
        "num_images": request.images,
        "credits": 1 if request.preset.media == "image" else 3,
        "queue": request.queue,
        "bucket": request.preset.type,
        "model_variant": MODELS[request.preset.kind],
        "negative_prompt_supported": request.preset.kind == "sdxl",
        "dual_worker_routing": True,
    }


def _links(request: Request) -> dict[str, str]:
    given = {"video_id": request.video_id, "image_id": request.image_id}
    return {name: value for name, value in given.items() if value is not None}
