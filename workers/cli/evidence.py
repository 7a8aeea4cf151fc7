"""What a file says of its origin, and what is known of it: everything that `verify` prints."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workers.cli.contents import Texts, frames_of, texts_of
from workers.provenance.credentials import Credential, read
from workers.provenance.watermark import SIDE, Detector, Reading
from workers.safety.audit import sha256_of
from workers.safety.copies import NEAR
from workers.safety.mark import Match, code_in, matches, own_code
from workers.safety.registry import Copy, Registry

if TYPE_CHECKING:
    from workers.provenance.chain import Keys
    from workers.provenance.watermark import Frames

GATE = 4.0
"""Confidence from which a mark may be taken for ours without a job that it leads to."""

SURE = 1e-6
"""Chance of a mistake below which no other scale is looked at."""

SIDES = (362, 256, 181, 724)
"""Scales at which a mark lies in a part of a picture, down to a third of it, or in a picture with a frame around."""

Verdict = Literal["ours", "altered", "says so", "nothing", "unreadable"]


@dataclass(frozen=True, slots=True)
class Mark:
    """The clearest reading of the pixels. `own`: it fits together under our key. `jobs` are those it may stand for."""

    code: str
    confidence: float
    side: int
    own: bool
    jobs: tuple[Match, ...] = ()

    @property
    def chance(self) -> float:
        """That the job it stands for is none of it; a certainty where there is none."""
        return self.jobs[0].chance if self.jobs else 1.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """`job`: the one whose very file this is. `copies`: outputs that look like it."""

    file: str
    credential: Credential | None
    texts: Texts
    mark: Mark | None
    job: str | None = None
    copies: tuple[Copy, ...] = ()
    readable: bool = True

    @property
    def verdict(self) -> Verdict:
        """Texts are easily written; what only we can make, or know, counts."""
        state = self.credential.state if self.credential is not None else None
        if state == "trusted" or self.job or self.copies or (self.mark and (self.mark.jobs or self.mark.own)):
            return "ours"
        signed = self.credential is not None and self.credential.issuer is not None
        if not self.readable and not signed:
            return "unreadable"
        if state == "invalid":
            return "altered"
        return "says so" if self.texts.source_type or state == "valid" else "nothing"

    def as_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, **asdict(self)}


@dataclass(frozen=True)
class Examiner:
    """Whoever looks at files: with our keys and registry where they are at hand, else with what anybody has."""

    keys: Keys | None
    registry: Registry | None
    anchors: str
    fingerprint: Callable[[Any], str | None]
    device: str = "cpu"

    @cached_property
    def _detector(self) -> Detector:
        return Detector(self.device)

    @cached_property
    def _jobs(self) -> list[str]:
        return self.registry.jobs() if self.registry is not None else []

    def examine(self, path: Path) -> Evidence:
        """Raises `Misconfigured` without the detector's weights, `sqlite3.Error` where the registry cannot be read."""
        credential = read(path, self.anchors)
        frames = frames_of(path)
        if frames is None:
            return Evidence(str(path), credential, Texts(), None, self._known_job(path), readable=False)
        mark, copies = self.mark(frames), self._copies(frames)
        return Evidence(str(path), credential, texts_of(path), mark, self._known_job(path), copies)

    def mark(self, frames: Frames) -> Mark:
        """The first reading that is hardly damaged, else the surest that leads to a job, else the clearest."""
        sides = looks(max(frames.shape[1:3]))
        marks = []
        for side in sides:
            marks.append(self._judged(self._detector.read(frames, side), len(sides)))
            if marks[-1].own or marks[-1].chance <= SURE:
                break
        return min(marks, key=lambda mark: (mark.chance, not mark.own, -mark.confidence))

    def _judged(self, reading: Reading, looks: int) -> Mark:
        code, key = code_in(reading.logits), self.keys.mark if self.keys is not None else None
        own = own_code(reading.logits, key) if key is not None and reading.confidence >= GATE else None
        jobs = matches(reading.logits, self._jobs, key, looks) if key is not None else []
        shown = f"{code if own is None else own:08x}"
        return Mark(shown, round(reading.confidence, 2), reading.side, own is not None, tuple(jobs[:5]))

    def _known_job(self, path: Path) -> str | None:
        entry = self.registry.find(sha256_of(path.read_bytes())) if self.registry is not None else None
        return entry.job if entry is not None else None

    def _copies(self, frames: Frames) -> tuple[Copy, ...]:
        if self.registry is None:
            return ()
        return tuple(self.registry.near(map(self.fingerprint, frames), NEAR)[:5])


def looks(side: int) -> list[int]:
    """The scales to look at, for a picture with this long side, the likeliest first. Beyond twice its size there is
    nothing to see."""
    return [each for each in dict.fromkeys((min(SIDE, side), SIDE, *SIDES)) if each <= 2 * side]


def open_registry(folder: Path) -> Registry | None:
    """None where nothing was made here."""
    registry = Registry(folder)
    if not registry.exists:
        return None
    try:
        registry.jobs()
    except sqlite3.Error:
        return None
    return registry
