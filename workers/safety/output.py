"""Gate G3: what came out. Asked before anything is encoded, uploaded or shown, and fails closed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.job import Output, Rating
from workers.logs import describe, log
from workers.safety.block import RESULT, UNCHECKED, Blocked, Gate
from workers.safety.copies import BlockList
from workers.safety.scorer import Scorer

if TYPE_CHECKING:
    from workers.safety.scorer import Frame

EVERY = 8
"""Of a clip every eighth frame is looked at, the first and the last."""


Print = Callable[["Frame"], str | None]


@dataclass(frozen=True, slots=True)
class Scan:
    """What was seen in one output. `scores`: the worst of its frames for each scorer, the youngest one for the age.
    `prints`: a perceptual hash of each frame that was looked at, None where it is too plain."""

    index: int
    scores: Mapping[str, float]
    prints: tuple[str | None, ...]


class ScorerFailed(Exception):
    """A scorer raised, or answered with no number."""


class Screen:
    """`explicit`: scorers, each with the value from which a frame is explicit. `age`: a scorer, with the years below
    which somebody may be a minor; adult work needs it. `copies` is asked anew for every output."""

    def __init__(
        self,
        explicit: Sequence[tuple[Scorer, float]],
        age: tuple[Scorer, float] | None,
        *,
        fingerprint: Print,
        copies: Callable[[], BlockList],
    ) -> None:
        if not explicit:
            raise ValueError("somebody must look")
        self._explicit, self._age = tuple(explicit), age
        self._print, self._copies = fingerprint, copies
        self.broken: str | None = None
        self.blocked: deque[str] = deque()

    @property
    def judges_age(self) -> bool:
        return self._age is not None

    @property
    def versions(self) -> dict[str, str]:
        scorers = [scorer for scorer, _ in (*self._explicit, *([self._age] if self._age else []))]
        return {scorer.name: scorer.version for scorer in scorers}

    def look(self, output: Output, rating: Rating) -> Scan:
        """Raises `Blocked`, also where a scorer fails; the worker should end then, so `broken` says so."""
        frames = [output.frames[i] for i in sampled(len(output.frames))]
        try:
            scores = {scorer.name: max(_rate(scorer, frame) for frame in frames) for scorer, _ in self._explicit}
            age = self.youngest(frames) if rating == "adult" else None
            prints = tuple(self._print(frame) for frame in frames)
        except Exception as error:
            raise self.failed("G3", error) from None
        scan = Scan(output.index, scores if age is None else {**scores, "age": age}, prints)
        self._judge(scan, rating, mirrored_too(prints, frames, self._print))
        return scan

    def youngest(self, frames: Sequence[Frame]) -> float | None:
        """The apparent age in years; None where nothing judges it. Raises `ScorerFailed`, or what the scorer does."""
        return min(_rate(self._age[0], frame) for frame in frames) if self._age else None

    def is_minor(self, age: float | None) -> bool:
        """An unknown age is a minor's."""
        return self._age is None or age is None or age < self._age[1]

    def failed(self, gate: Gate, error: BaseException) -> Blocked:
        """What to raise when looking did not work. From then on this process makes nothing more."""
        self.broken = type(error).__name__
        log.error("scorer failed", **describe(error))
        return Blocked(gate, "scorer_failed", UNCHECKED, error=self.broken)

    def _judge(self, scan: Scan, rating: Rating, prints: Iterable[str | None]) -> None:
        facts: dict[str, Any] = {"output": scan.index, "scores": rounded(scan.scores)}
        if rating != "adult" and any(scan.scores[scorer.name] >= least for scorer, least in self._explicit):
            raise Blocked("G3", "explicit_sfw", RESULT, **facts)
        if rating == "adult" and self.is_minor(scan.scores.get("age")):
            raise Blocked("G3", "minor_adult", RESULT, **facts)
        if (copy := self._copies().match(prints)) is not None:
            raise Blocked("G3", "blocked_copy", RESULT, **facts, copy_of=copy)


def mirrored_too(prints: Iterable[str | None], frames: Iterable[Frame], fingerprint: Print) -> Iterator[str | None]:
    """The frames' perceptual hashes, and those of their mirror images, by which copies are passed on as well."""
    yield from prints
    yield from (fingerprint(frame[:, ::-1]) for frame in frames)


def rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: round(score, 4) for name, score in scores.items()}


def _rate(scorer: Scorer, frame: Frame) -> float:
    """Raises `ScorerFailed` where the answer is no number, or what the scorer raises."""
    value = scorer(frame)
    if not math.isfinite(value):
        raise ScorerFailed(scorer.name)
    return value


def sampled(count: int) -> list[int]:
    return sorted({*range(0, count, EVERY), count - 1})
