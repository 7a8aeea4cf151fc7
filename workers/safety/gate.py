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
    """`default` is what a payload without a rating counts as. No ceiling makes an adult wish an sfw job here: nothing
    looks yet at what comes out."""

    default: Rating = "sfw"

    def admit(self, job: Job) -> Rating:
        """Raises `Rejected` with code "policy"."""
        if job.references:
            raise Rejected(REFERENCES, field=job.references[0].role, code="policy")
        if (job.rating or self.default) == "adult":
            raise Rejected(ADULT, field="rating", code="policy")
        return "sfw"
