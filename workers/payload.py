"""Queue element -> `Job`: every envelope and spelling that producers use, nothing that they must not decide."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NoReturn

from workers.errors import Rejected
from workers.job import UUID, Job, Rating, Reference
from workers.references.character import texts_of_character

MAX_ENVELOPE = 256 * 1024
MAX_PROMPT = 4_000
MAX_NEGATIVE = 2_000
MAX_ENVELOPE_DEPTH = 6
MAX_DEPTH = 32

_ID_ANYWHERE = re.compile(r'\\*"(?:id|job_id|jobId)\\*"\s*:\s*\\*"(' + UUID.pattern + r")\\*\"")

SPELLINGS = {
    "job_id": "id",
    "jobId": "id",
    "job_type": "type",
    "jobType": "type",
    "userId": "user_id",
    "numImages": "num_images",
    "negativePrompt": "negative_prompt",
    "imageId": "image_id",
    "videoId": "video_id",
    "createdAt": "created_at",
    "characterId": "character_id",
}
REFERENCE_KEYS = {
    "reference_image_url": "reference_image_url",
    "reference_image": "reference_image_url",
    "reference_url": "reference_image_url",
    "image": "reference_image_url",
    "first_frame": "first_frame",
    "start_reference_url": "first_frame",
    "last_frame": "last_frame",
    "end_reference_url": "last_frame",
}
"""What producers call a reference -> its role."""

REFERENCE_WISHES = ("reference_strength", "reference_type", "denoise_strength", "exact_copy_mode", "pipeline")
UNREADABLE = "The job could not be read."


def parse(raw: str) -> Job:
    """Check one queue element and return its job. Raises `Rejected` with the field at fault."""
    payload = decode(raw)
    metadata = _mapping(payload, "metadata")
    config = _mapping(payload, "config")
    return Job(
        id=_uuid(payload, "id"),
        type=_text(payload, "type", limit=64, required=True),
        user_id=_uuid(payload, "user_id"),
        prompt=_text(payload, "prompt", limit=MAX_PROMPT),
        negative_prompt=_text(payload, "negative_prompt", limit=MAX_NEGATIVE),
        config=config,
        metadata=metadata,
        created_at=_optional_text(payload, "created_at"),
        image_id=_optional_text(payload, "image_id"),
        video_id=_optional_text(payload, "video_id"),
        character_id=_optional_text(payload, "character_id"),
        consent_id=_optional_text(payload, "consent_id"),
        consent=_mapping(payload, "consent"),
        character=_normalised(texts_of_character(payload, config, metadata)),
        rating=_rating(payload, metadata),
        tier=_optional_text(payload, "tier"),
        raw_prompt=metadata.get("raw_prompt") is True,
        compel_weights=_compel_weights(payload),
        references=_references(payload, config, metadata),
        reference_wishes=_reference_wishes(payload, config, metadata),
    )


def decode(raw: str) -> dict[str, Any]:
    """Unwrap the envelopes of every producer and spell keys our way. Raises `Rejected`."""
    if len(raw.encode("utf-8", "surrogatepass")) > MAX_ENVELOPE:
        raise Rejected("The job is too large.", field="payload", code="unreadable")
    value: Any = raw
    for _ in range(MAX_ENVELOPE_DEPTH):
        if isinstance(value, str):
            value = _loads(value)
        elif isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, dict) and value.keys() == {"data"}:
            value = value["data"]
        else:
            break
    if not isinstance(value, dict):
        raise Rejected(UNREADABLE, field="payload", code="unreadable")
    _check_plain(value)
    return _respell(value)


def find_id(raw: str) -> str | None:
    """The job id of a message that may be wrong or unreadable, so that its user still hears of it. Bounded work.

    In a message that can be read, an id elsewhere than in its own place is another job's.
    """
    try:
        own = decode(raw).get("id")
    except Rejected:
        found = _ID_ANYWHERE.search(raw[:MAX_ENVELOPE])
        return found.group(1) if found else None
    return own if isinstance(own, str) and UUID.fullmatch(own) else None


def find_user(raw: str) -> str | None:
    """The user id of a message that can be read."""
    try:
        user = decode(raw).get("user_id")
    except Rejected:
        return None
    return user if isinstance(user, str) and UUID.fullmatch(user) else None


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Rejected(UNREADABLE, field="payload", code="unreadable") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_plain(value: Any, depth: int = 0) -> None:
    """Finite numbers, encodable text and bounded nesting: each of the others crashes something further on."""
    if depth > MAX_DEPTH:
        raise Rejected(UNREADABLE, field="payload", code="unreadable")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, depth + 1)
            _check_plain(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, depth + 1)
    elif isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise Rejected("The job contains characters that are not valid text.", field="payload", code="unreadable")
    elif isinstance(value, (int, float)) and not -1e15 < value < 1e15:
        raise Rejected("The job contains a number that is out of range.", field="payload", code="unreadable")


def _respell(payload: dict[str, Any]) -> dict[str, Any]:
    spelled = _with_own_keys(payload)
    for nested in ("config", "metadata"):
        if isinstance(spelled.get(nested), dict):
            spelled[nested] = _with_own_keys(spelled[nested])
    return spelled


def _with_own_keys(source: dict[str, Any]) -> dict[str, Any]:
    """Ours wins where a message carries both spellings, as the newest form does."""
    other = {SPELLINGS[key]: value for key, value in source.items() if key in SPELLINGS}
    return other | {key: value for key, value in source.items() if key not in SPELLINGS}


def _mapping(payload: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = payload.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Rejected("The job's settings could not be read.", field=key)
    return value


def _uuid(payload: Mapping[str, Any], key: str) -> str:
    value = payload.get(key)
    if not isinstance(value, str) or not UUID.fullmatch(value):
        raise Rejected("The job's id or user is missing or not valid.", field=key)
    return value


def _text(payload: Mapping[str, Any], key: str, *, limit: int, required: bool = False) -> str:
    value = payload.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise Rejected(f"The {_spoken(key)} is missing or not text.", field=key)
    if len(value) > limit * 4 or len(value := _normalised(value)) > limit:
        raise Rejected(f"The {_spoken(key)} is longer than {limit:,} characters.", field=key)
    return value


def _normalised(text: str) -> str:
    """NFKC without control characters; line breaks become spaces."""
    plain = unicodedata.normalize("NFKC", text)
    return "".join(" " if c in "\r\n\t" else c for c in plain if c in "\r\n\t" or unicodedata.category(c) != "Cc")


def _optional_text(payload: Mapping[str, Any], key: str) -> str | None:
    value = payload.get(key)
    return value[:128] if isinstance(value, str) and value else None


def _spoken(key: str) -> str:
    return {"negative_prompt": "negative prompt", "type": "job type"}.get(key, key)


def _rating(payload: Mapping[str, Any], metadata: Mapping[str, Any]) -> Rating | None:
    """The rating asked for. The client's own metadata can only make it stricter."""
    if "sfw" in (metadata.get("rating"), metadata.get("content_type")):
        return "sfw"
    for key in ("rating", "content_type"):
        match payload.get(key):
            case "sfw":
                return "sfw"
            case "adult" | "nsfw":
                return "adult"
    return None


def _compel_weights(payload: Mapping[str, Any]) -> str:
    if payload.get("compel_enabled") is not True:
        return ""
    return _text(payload, "compel_weights", limit=MAX_NEGATIVE)


def _references(*sources: Mapping[str, Any]) -> tuple[Reference, ...]:
    """Every picture a payload points at, wherever a producer puts it; one entry per role, under one address."""
    found: dict[str, Reference] = {}
    for source in sources:
        for key, role in REFERENCE_KEYS.items():
            value = source.get(key)
            if not value or value is True:
                continue
            reference = Reference(role, value if isinstance(value, str) else "")
            if _place(found.setdefault(role, reference)) != _place(reference):
                raise Rejected("The job names two different references for one purpose; send one.", field=key)
    return tuple(found.values())


def _place(reference: Reference) -> str:
    """Its address without the token, which differs whenever one is signed."""
    return reference.url.partition("?")[0]


def _reference_wishes(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be done with references; the earlier source wins."""
    given = {key: [source[key] for source in sources if source.get(key) is not None] for key in REFERENCE_WISHES}
    return {key: values[0] for key, values in given.items() if values}
