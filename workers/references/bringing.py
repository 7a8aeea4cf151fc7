"""A job's references are brought in before it takes the card, or it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from workers.errors import Rejected, Unreachable
from workers.job import Guide, GuideUse, Job, Picture, Reference, SamplingParams
from workers.watch import Watch

UNFETCHED = "The reference image could not be fetched, also not later. Please try again."
NO_REFERENCES = "Reference images are not available here."
MISSING: Mapping[GuideUse, str] = {
    "start": NO_REFERENCES,
    "style": "Style references are not available here.",
    "character": "Character references are not available here.",
    "subject": "Videos from a reference image are not available here.",
    "frames": "Videos from a first or last frame are not available here.",
}
"""What is said where the model for a kind of reference is not on the volume."""


class References(Protocol):
    """Brings in what a job points at, by role; `clip` where the reference may be one. Raises `Rejected`, or
    `Unreachable` where another try may do better."""

    def collect(self, wanted: Sequence[Reference], user_id: str, clip: SamplingParams | None) -> dict[str, Picture]: ...


def require(guide: Guide | None, uses: frozenset[GuideUse]) -> None:
    """Raises `Rejected` for what this engine cannot follow: nothing is made without its reference."""
    if guide is not None and guide.use not in uses:
        raise Rejected(MISSING[guide.use], field="reference_type" if guide.asked else None)


def bring(
    references: References | None, job: Job, params: SamplingParams, watch: Watch, *, last: bool
) -> dict[str, Picture]:
    """Pictures by role. Raises `Rejected`, or `Unreachable` where this is not the last try."""
    if not job.references:
        return {}
    role = job.references[0].role
    if references is None or params.guide is None:
        raise Rejected(NO_REFERENCES, field=role)
    clip = params if params.media == "video" and params.guide.use == "start" else None
    try:
        with watch.phase("fetch"):
            return references.collect(job.references, job.user_id, clip)
    except Unreachable:
        if not last:
            raise
        raise Rejected(UNFETCHED, field=role) from None
