"""Gate G2: whose picture a job begins from.

In adult work a picture is either our own output, made for the same user, or covered by a consent that the platform
verified: then the payload carries at its top level

    "consent_id": "…", "consent": {"expires_at": 1790000000, "signature": "…"}

where the signature is the hex HMAC-SHA256, under CONSENT_SECRET, of `consent.v1|{consent_id}|{user_id}|{expires_at}|`
and the SHA-256 of every reference file, in hex, each once, sorted and joined by commas. So a consent holds
for one user, these very pictures, and until then. Where each picture has a consent of its own, `consent_id` names
all, joined by commas.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from workers.job import Job, Rating
from workers.safety.block import REFERENCE, Blocked
from workers.safety.copies import BlockList
from workers.safety.output import Print, Screen, mirrored_too, sampled
from workers.safety.registry import Entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workers.job import Picture

NO_CONSENT = "This reference image needs a consent that covers it."


class Known(Protocol):
    """What was made here before."""

    def find(self, sha256: str) -> Entry | None: ...
    def block_list(self) -> BlockList: ...


@dataclass(frozen=True, slots=True)
class ReferenceGate:
    """`secret` is what consents are signed with; without one none is ever valid. `pseudonym` is the audit's."""

    screen: Screen
    known: Known
    fingerprint: Print
    pseudonym: Callable[[str], str]
    secret: str | None = None
    clock: Callable[[], float] = time.time

    def admit(self, job: Job, rating: Rating, pictures: Mapping[str, Picture]) -> None:
        """`pictures` are by role, as fetched. Raises `Blocked`; whatever else goes wrong blocks too."""
        for role, picture in pictures.items():
            frames = _frames(picture)
            self._refuse_copies(role, picture, frames)
            if rating == "adult":
                self._refuse_minors(role, frames)
        if rating == "adult":
            if not pictures:  # a remembered character: whose picture it was made from is not known any more
                raise Blocked("G2", "no_consent", NO_CONSENT, field="character_id")
            foreign = {role: p.sha256 for role, p in pictures.items() if not self._is_own(job, p.sha256)}
            if foreign and not self._consented(job, (picture.sha256 for picture in pictures.values())):
                raise Blocked("G2", "no_consent", NO_CONSENT, field=next(iter(foreign)), sha256=[*foreign.values()])

    def _refuse_copies(self, role: str, picture: Picture, frames: NDArray[np.uint8]) -> None:
        prints = [self.fingerprint(frame) for frame in frames]
        shown = mirrored_too(prints, frames, self.fingerprint)
        if (copy := self.known.block_list().match(shown, picture.sha256)) is not None:
            raise Blocked("G2", "blocked_copy", REFERENCE, field=role, copy_of=copy, sha256=[picture.sha256])

    def _refuse_minors(self, role: str, frames: NDArray[np.uint8]) -> None:
        """Whatever the consent."""
        try:
            age = self.screen.youngest(list(frames))
        except Exception as error:
            raise self.screen.failed("G2", error) from None
        if self.screen.is_minor(age):
            raise Blocked("G2", "minor_reference", REFERENCE, field=role, age=age)

    def _is_own(self, job: Job, sha256: str) -> bool:
        entry = self.known.find(sha256)
        return entry is not None and entry.user == self.pseudonym(job.user_id)

    def _consented(self, job: Job, files: Iterable[str]) -> bool:
        expires, signature = job.consent.get("expires_at"), job.consent.get("signature")
        if not (self.secret and job.consent_id and isinstance(expires, int) and isinstance(signature, str)):
            return False
        right = sign_consent(self.secret, job.consent_id, job.user_id, expires, files)
        return hmac.compare_digest(right.encode(), signature.encode()) and self.clock() < expires


def sign_consent(secret: str, consent_id: str, user_id: str, expires_at: int, files: Iterable[str]) -> str:
    """What the platform puts into the payload. `files`: the SHA-256 of every reference."""
    covered = f"consent.v1|{consent_id}|{user_id}|{expires_at}|{','.join(sorted(set(files)))}"
    return hmac.new(secret.encode(), covered.encode(), hashlib.sha256).hexdigest()


def _frames(picture: Picture) -> NDArray[np.uint8]:
    """Those of a clip that are looked at, or the only one."""
    import numpy as np

    width, height = picture.size
    frames = np.frombuffer(picture.pixels, dtype=np.uint8).reshape(picture.frames, height, width, 3)
    return frames[sampled(picture.frames)]
