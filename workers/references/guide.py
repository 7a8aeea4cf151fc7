"""What a payload wants done with its references: wishes become a `Guide`, and what is fetched settles it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workers.errors import Rejected
from workers.job import UUID, Guide, GuideUse, Job, Media, Picture, Preset, SamplingParams

REFERENCE, FIRST, LAST = "reference_image_url", "first_frame", "last_frame"
PIPELINES = ("txt2img", "img2img", "video")
USES: Mapping[str, GuideUse] = {"composition": "start", "style": "style", "character": "character"}
TYPES: Mapping[GuideUse, str] = {use: name for name, use in USES.items()} | {"subject": "character"}
"""The payload's `reference_type` and our word for it, both ways."""

HALF = 0.5
FULL = 1.0
COPY_CHANGE = 0.05
"""The most that a copy may differ from its reference, as a share of the denoising."""

MODES = {frozenset({FIRST}): "start", frozenset({LAST}): "end", frozenset({FIRST, LAST}): "both"}

Adjusted = dict[str, list[Any]]


def guide_for(job: Job, preset: Preset, adjusted: Adjusted) -> Guide | None:
    """None where a job has no reference. Raises `Rejected` for wishes that contradict each other."""
    roles = {reference.role for reference in job.references}
    asked = _asked_type(job)
    if not roles and asked == "character" and job.character_id and "character" in preset.references:
        return Guide("character", weight=_weight(job, adjusted, HALF), character=_character(job), asked=asked)
    _check_pipeline(job, roles, preset.media, adjusted)
    if not roles:
        if asked is not None:
            adjusted["reference_type"] = [asked, None]
        return None
    return _told(_guide(job, preset, roles, adjusted), adjusted)


def settled(params: SamplingParams, pictures: Mapping[str, Picture]) -> SamplingParams:
    """The parameters with what was fetched: a video begins from a clip, but is shown a single picture; a clip that
    is shorter than what was asked for says how long the result is."""
    guide, adjusted, frames = params.guide, dict(params.adjusted), params.frames
    assert guide is not None
    reference = pictures.get(REFERENCE)
    if guide.use == "start" and reference is not None and params.media == "video":
        if reference.frames == 1:
            guide = replace(guide, use="subject")
        elif (whole := reference.frames - (reference.frames - 1) % 4) < frames:
            adjusted["frames"] = [adjusted.get("frames", [frames])[0], whole]
            frames = whole
    guide = _told(replace(guide, pictures=dict(pictures)), adjusted)
    return replace(params, guide=guide, frames=frames, adjusted=adjusted)


def skipped(steps: int, change: float) -> int:
    """How many of the first, noisiest steps are left out: at least one, so that the reference is always to be seen, and
    never all."""
    return max(0, min(max(1, steps - int(steps * change + 1e-9)), steps - 1))


def account(guide: Guide, media: Media) -> dict[str, Any]:
    """For the callback's metadata. Pictures are named by their hash, never by their address."""
    roles = frozenset(guide.pictures)
    said: dict[str, Any] = {
        "pipeline": "video" if media == "video" else "img2img",
        "reference_mode": MODES.get(roles - {REFERENCE}, "single"),
        "reference_type": TYPES.get(guide.use),
        "reference_sha256": {role: picture.sha256 for role, picture in guide.pictures.items()},
        "exact_copy_mode": guide.copy,
    }
    if guide.use == "start":
        return said | {"denoise_strength": guide.change, "resize_policy": "center_crop"}
    return said | {"reference_strength": guide.weight}


def _guide(job: Job, preset: Preset, roles: set[str], adjusted: Adjusted) -> Guide:
    copy, asked = job.reference_wishes.get("exact_copy_mode") is True, _asked_type(job)
    if ends := roles & {FIRST, LAST}:
        if "frames" not in preset.references:
            raise Rejected("Only videos have a first and a last frame.", field=min(ends))
        return Guide("frames", weight=FULL, asked=asked)
    use = USES[asked or "composition"]
    if copy or use not in preset.references:
        use = "start"
    if use != "start":
        character = _character(job) if use == "character" and job.character_id else None
        return Guide(use, weight=_weight(job, adjusted, HALF), character=character, asked=asked)
    change = _change(job, adjusted)
    if copy and change > COPY_CHANGE:
        adjusted["denoise_strength"], change = [change, COPY_CHANGE], COPY_CHANGE
    weight = _weight(job, {}, FULL if preset.media == "video" else HALF)
    return Guide("start", change=change, weight=weight, copy=copy, asked=asked)


def _told(guide: Guide, adjusted: Adjusted) -> Guide:
    """Say so where the type that was asked for is not the one that is used."""
    used = TYPES.get(guide.use)
    if guide.asked not in (None, used):
        adjusted["reference_type"] = [guide.asked, used]
    else:
        adjusted.pop("reference_type", None)
    return guide


def _asked_type(job: Job) -> str | None:
    asked = job.reference_wishes.get("reference_type")
    if asked is None or (isinstance(asked, str) and asked in USES):
        return asked
    raise Rejected("The reference type must be style, composition or character.", field="reference_type")


def _check_pipeline(job: Job, roles: set[str], media: Media, adjusted: Adjusted) -> None:
    asked = job.reference_wishes.get("pipeline")
    if asked == "img2img" and not roles:
        raise Rejected("The job asks for image-to-image but has no reference image.", field="pipeline")
    if asked == "txt2img" and roles:
        raise Rejected("Text-to-image uses no reference: leave it out, or ask for img2img.", field="pipeline")
    used = "video" if media == "video" else "img2img" if roles else "txt2img"
    if asked is not None and asked != used:
        adjusted["pipeline"] = [str(asked)[:32], used]


def _change(job: Job, adjusted: Adjusted) -> float:
    """`denoise_strength`, else what `reference_strength` leaves. Where both are given and disagree, the first wins."""
    change, kept = _share(job, "denoise_strength", adjusted), _share(job, "reference_strength", adjusted)
    if change is None:
        return HALF if kept is None else round(1.0 - kept, 6)
    if kept is not None and abs(change + kept - 1.0) > 0.005:
        adjusted["reference_strength"] = [kept, round(1.0 - change, 6)]
    return change


def _weight(job: Job, adjusted: Adjusted, default: float) -> float:
    """`reference_strength`, else what `denoise_strength` leaves."""
    kept, change = _share(job, "reference_strength", adjusted), _share(job, "denoise_strength", adjusted)
    if kept is None:
        return default if change is None else round(1.0 - change, 6)
    return kept


def _share(job: Job, name: str, adjusted: Adjusted) -> float | None:
    asked = job.reference_wishes.get(name)
    if asked is None:
        return None
    if isinstance(asked, bool) or not isinstance(asked, (int, float)):
        raise Rejected(f"The {name.replace('_', ' ')} must be a number from 0 to 1.", field=name)
    used = float(min(max(asked, 0.0), 1.0))
    if used != asked:
        adjusted[name] = [asked, used]
    return used


def _character(job: Job) -> str:
    """Ids of the canonical form only: they become a path."""
    if job.character_id is None or not UUID.fullmatch(job.character_id):
        raise Rejected("The character's id is not valid.", field="character_id")
    return f"{job.user_id}/{job.character_id}"
