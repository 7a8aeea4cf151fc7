"""Jobs that point at pictures and clips, and what lies in storage for them."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import httpx
from messages import PRESETS, USER, push_known

from tests.drawn import animated, bomb, clip, halves, png
from workers.local.stack import LocalStack

OTHER = "99999999-8888-4777-8666-555555555555"
CHARACTER = "cccccccc-2222-4333-8444-555555555555"
PLACE = "workspace-temp"
PICTURE, WIDE, CLIP = png(), png(halves(200, 40), "JPEG"), clip(24)
FILES = {
    "picture.png": PICTURE,
    "wide.jpg": WIDE,
    "clip.mp4": CLIP,
    "moving.gif": animated("GIF"),
    "moving.png": animated("PNG"),
    "moving.webp": animated("WEBP"),
    "bomb.png": bomb(),
    "large.png": png() + bytes(20_000_000),
}
MEDIA = {"mp4": "video/mp4"}
QUICK = {"num_images": 1, "frame_num": 5, "seed": 3, "sample_steps": 4, "num_inference_steps": 4}
ABSENT = "The reference image could not be fetched."
ELSEWHERE = "The reference image must lie in your own folder of this service."
FORM = "The reference image must be a PNG, JPEG or WebP picture."
SINGLE = "The reference image must be a single picture."

ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "a beginning": ("sdxl_image_fast", {"reference_image_url": "picture.png", "denoise_strength": 0.3}),
    "a copy": ("sdxl_image_fast", {"reference_image_url": "wide.jpg", "exact_copy_mode": True}),
    "a style": ("sdxl_image_fast", {"reference_image_url": "picture.png", "reference_type": "style"}),
    "a character": ("sdxl_image_fast", {"reference_image_url": "picture.png", "reference_type": "character"}),
    "the same character": ("sdxl_image_fast", {"reference_type": "character"}),
    "a video model's beginning": ("image_fast", {"image": "wide.jpg", "reference_strength": 0.8}),
    "a clip": ("video_fast", {"image": "clip.mp4"}),
    "frames": ("video_fast", {"first_frame": "picture.png", "last_frame": "wide.jpg"}),
    "a subject": ("video_fast", {"image": "picture.png"}),
}
"""What a job is for -> its type and wishes; addresses are names of `FILES`."""

REFUSED: dict[str, tuple[str, str]] = {
    "moving.gif": (FORM, "image_fast"),
    "moving.png": (SINGLE, "image_fast"),
    "moving.webp": (SINGLE, "sdxl_image_fast"),
    "bomb.png": ("The reference image has more than 25 million pixels.", "sdxl_image_fast"),
    "large.png": ("The reference is larger than 20 MB.", "image_fast"),
    "clip.mp4": (FORM, "image_fast"),
    "missing.png": (ABSENT, "sdxl_image_fast"),
    f"{PLACE}/{OTHER}/picture.png": (ELSEWHERE, "image_fast"),
    "https://elsewhere.example/picture.png?token=planted": (ELSEWHERE, "sdxl_image_fast"),
    "https://127.0.0.1/picture.png": (ELSEWHERE, "image_fast"),
}
"""Address -> what the user reads, and the type of job."""


def push(stack: LocalStack) -> dict[str, str]:
    """Upload everything and queue all jobs; what each is for -> its id."""
    for name, data in FILES.items():
        _upload(stack, f"{USER}/{name}", data)
    _upload(stack, f"{OTHER}/picture.png", PICTURE)
    jobs = {f"reference {label}": _job(stack, kind, wishes) for label, (kind, wishes) in ACCEPTED.items()}
    refused = {address: (kind, {"reference_image_url": address}) for address, (_, kind) in REFUSED.items()}
    return jobs | {f"reference {label}": _job(stack, kind, wishes) for label, (kind, wishes) in refused.items()}


def uploads() -> set[str]:
    """Paths of what lies in storage before any job."""
    return {f"{USER}/{name}" for name in FILES} | {f"{OTHER}/picture.png"}


def hashes(label: str) -> set[str]:
    """Of the files that an accepted job points at."""
    names = [value for value in ACCEPTED[label][1].values() if value in FILES]
    return {hashlib.sha256(FILES[name]).hexdigest() for name in names or ["picture.png"]}


def _job(stack: LocalStack, job_type: str, wishes: dict[str, Any]) -> str:
    config = QUICK | {key: _address(stack, value) for key, value in wishes.items()}
    facts = {"id": str(uuid.uuid4()), "type": job_type, "user_id": USER, "prompt": "a lighthouse at dusk"}
    if wishes.get("reference_type") == "character":
        facts["character_id"] = CHARACTER
    message = json.dumps({**facts, "config": config}).encode()
    return push_known(stack, message, f"{PRESETS[job_type].kind}_queue")


def _address(stack: LocalStack, value: Any) -> Any:
    """Pictures by a signed address, as browsers send it; all others by their path."""
    if value == "picture.png":
        answer = _post(stack, f"object/sign/{PLACE}/{USER}/{value}", json={"expiresIn": 600}).json()
        return f"{stack.supabase.url}/storage/v1{answer['signedURL']}"
    is_name = isinstance(value, str) and (value in FILES or value == "missing.png")
    return f"{PLACE}/{USER}/{value}" if is_name else value


def _upload(stack: LocalStack, path: str, data: bytes) -> None:
    content_type = MEDIA.get(path.rpartition(".")[2], "image/png")
    _post(stack, f"object/{PLACE}/{path}", content=data, headers={"Content-Type": content_type})


def _post(stack: LocalStack, path: str, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    key = stack.double.keys.service
    said = {"Authorization": f"Bearer {key}", "apikey": key, **(headers or {})}
    with httpx.Client(base_url=stack.supabase.url, headers=said, verify=False) as client:
        return client.post(f"/storage/v1/{path}", **body).raise_for_status()
