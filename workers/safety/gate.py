"""The gate every job passes before it costs anything: adult work stays outside.

Until scorers and consent records exist, it cannot be told from what must never be made, so it is refused, whatever the
deployment's settings say. Reference pictures are for work that is rated sfw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workers.errors import Rejected
from workers.job import Job, Picture, Rating

ADULT = "Adult content is not available."
CONSENT = "Adult content from a reference image needs a consent that was verified."
REFUSES = ("jobs rated adult",)
"""For `check`: what this gate refuses, in words."""


@dataclass(frozen=True, slots=True)
class PlainGate:
    """`default` is what a payload without a rating counts as. No ceiling makes an adult wish an sfw job here: nothing
    looks yet at what comes out."""

    default: Rating = "sfw"

    def admit(self, job: Job) -> Rating:
        """Raises `Rejected` with code "policy"."""
        if (job.rating or self.default) == "adult":
            raise Rejected(ADULT, field="rating", code="policy")
        return "sfw"

    def admit_references(self, job: Job, rating: Rating, pictures: Mapping[str, Picture]) -> None:
        """Pictures by role; none where a remembered character is asked for. Raises as `admit`."""
        if rating != "sfw":
            raise Rejected(CONSENT, field="consent_id", code="policy")
