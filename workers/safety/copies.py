"""Pictures that must not come back: known by the hash of their file or by a perceptual hash near to theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

NEAR = 8
"""Of 64 bits, how many may differ in a copy: encoding again, half the size, a darker or paler version change 0 to 6."""


def distance(one: str, other: str) -> int:
    """In bits, between two perceptual hashes in hex."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


@dataclass(frozen=True, slots=True)
class BlockList:
    """`files`: SHA-256 -> the job it came from. `prints`: perceptual hashes as numbers, each with its job."""

    files: Mapping[str, str] = field(default_factory=dict)
    prints: Sequence[tuple[int, str]] = ()

    def match(self, prints: Iterable[str | None], sha256: str | None = None) -> str | None:
        """The job whose picture this is, or is a copy of."""
        if sha256 is not None and sha256 in self.files:
            return self.files[sha256]
        if not self.prints:
            return None
        shown = [int(seen, 16) for seen in prints if seen is not None]
        return next(
            (job for blocked, job in self.prints for seen in shown if (blocked ^ seen).bit_count() <= NEAR), None
        )
