"""How a gate says no."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from workers.errors import Rejected, Unrecorded
from workers.logs import describe, log

Gate = Literal["G1", "G2", "G3"]
REQUEST = "This request is not allowed by the content rules."
REFERENCE = "This reference image is not allowed by the content rules."
RESULT = "The result is not allowed by the content rules."
UNCHECKED = "The result could not be checked and was discarded."
ADULT = "Adult content is not available."


class Blocked(Rejected):
    """A job ends here for good. The user reads a coarse sentence; `rule` and `facts` are for the audit, and hold
    neither text nor pixels."""

    def __init__(self, gate: Gate, rule: str, sentence: str, *, field: str | None = None, **facts: Any) -> None:
        super().__init__(sentence, field=field, code="policy")
        self.gate = gate
        self.rule = rule
        self.facts = facts


@contextmanager
def recording(job_id: str) -> Iterator[None]:
    """What cannot be written down within is not decided. Raises `Unrecorded`."""
    try:
        yield
    except OSError as fault:
        log.error("audit failed", job=job_id, **describe(fault))
        raise Unrecorded from None
