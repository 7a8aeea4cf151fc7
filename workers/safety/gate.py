"""The gate every job passes before it costs anything: adult work and foreign pictures stay outside.

Until scorers and consent records exist, nothing of either kind can be told from what must never be made, so
both are refused, whatever the deployment's settings say.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.errors import Rejected
from workers.job import Job, Rating

ADULT = "Adult content is not available."
REFERENCES = "Reference images are not available yet."
REFUSES = ("jobs rated adult", "jobs with a reference image")
"""For `check`: what this gate refuses, in words."""


@dataclass(frozen=True, slots=True)
class PlainGate:
    """`ceiling` is the most a deployment allows, `default` what a payload without a rating counts as."""

    ceiling: Rating = "sfw"
    default: Rating = "sfw"

    def rating(self, job: Job) -> Rating:
        """The stricter of the deployment's ceiling and the payload's wish."""
        return "sfw" if "sfw" in (self.ceiling, job.rating or self.default) else "adult"

    def admit(self, job: Job) -> Rating:
        """Raises `Rejected` with code "policy"."""
        if job.references:
            raise Rejected(REFERENCES, field=job.references[0].role, code="policy")
        if self.rating(job) == "adult":
            raise Rejected(ADULT, field="rating", code="policy")
        return "sfw"
