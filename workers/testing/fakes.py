"""Engines, storage and a receiver of callbacks that behave like the real ones without a card or a network."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from workers.delivery.verdict import Verdict
from workers.errors import Unreachable
from workers.job import Artifact, Delivery, GuideUse, Media, Outcome, Output, SamplingParams
from workers.prompting.prompt import Enhancement
from workers.safety.scorers import Scorers
from workers.safety.staged import Manifest
from workers.watch import Watch

Evil = Mapping[str, Callable[[Watch], None]]


class FakeEngine:
    """Takes `step_seconds` for each of `steps` denoising steps and paints shades of one colour per seed.

    A prompt that contains a key of `evil` runs its function first.
    """

    model_name = "fake"
    model_hash: str | None = None
    uses: frozenset[GuideUse] = frozenset(("start", "style", "character", "subject", "frames"))

    def __init__(
        self,
        step_seconds: float = 0.0,
        steps: int | None = None,
        evil: dict[str, Callable[[Watch], None]] | None = None,
    ) -> None:
        self._step_seconds, self._steps = step_seconds, steps
        self._evil = evil or {}
        self.loads = 0
        self.forgot = 0
        self.unrehearsed = False
        self.made: list[SamplingParams] = []

    def load(self, watch: Watch) -> None:
        self.loads += 1

    def warm_up(self, watch: Watch) -> None: ...

    def rehearse(self, watch: Watch) -> None:
        self.unrehearsed = False

    def forget(self) -> None:
        self.forgot += 1

    def unload(self) -> None: ...

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def generate(self, params: SamplingParams, watch: Watch) -> list[Output]:
        with watch.phase("denoise"):
            for words, deed in self._evil.items():
                if words in params.prompt:
                    deed(watch)
            steps = self._steps or params.steps
            for step in range(steps):
                time.sleep(self._step_seconds)
                watch.step(step + 1, steps)
        self.made.append(params)
        return [_plain_output(i, seed, params) for i, seed in enumerate(params.seeds)]


class FakeScorer:
    """Answers with one number, or with what a function says of a frame."""

    version = "fake"

    def __init__(self, name: str, answer: float | Callable[[Any], float]) -> None:
        self.name = name
        self._answer = answer

    def __call__(self, frame: Any) -> float:
        return self._answer(frame) if callable(self._answer) else self._answer


def no_objections(manifest: Manifest, root: Path) -> Scorers:
    """In the place of the models that judge pictures, where an engine paints one colour."""
    return Scorers(((FakeScorer("explicitness", 0.0), 1.0),), None)


class FakeEnhancer:
    """Says the prompt twice as beautifully."""

    model_name = "fake"

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def load(self, watch: Watch) -> None: ...

    def warm_up(self, watch: Watch) -> None: ...

    def enhance(self, prompt: str, media: Media, seed: int, watch: Watch) -> Enhancement:
        with watch.phase("enhance"):
            return Enhancement(text=f"{prompt}, beautifully lit", status="done")

    def forget(self, prompt: str) -> None:
        self.forgotten.append(prompt)


class MemoryStorage:
    """Objects by bucket and path, with how often each was put. `fail` may raise for a path before it is stored."""

    def __init__(self, fail: Callable[[str], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._fail = fail
        self.objects: dict[tuple[str, str], bytes] = {}
        self.puts: dict[str, int] = defaultdict(int)

    def put(self, artifact: Artifact, job_type: str, user_id: str, job_id: str) -> Delivery:
        path = f"{user_id}/{job_id}/{artifact.index}.{artifact.extension}"
        if self._fail is not None:
            self._fail(path)
        data = artifact.path.read_bytes()
        with self._lock:
            self.objects[job_type, path] = data
            self.puts[path] += 1
        return Delivery(
            index=artifact.index,
            bucket=job_type,
            path=path,
            content_type=artifact.content_type,
            size=artifact.size,
            frames=artifact.frames,
            seed=artifact.seed,
            bytes=len(data),
        )

    def delete(self, deliveries: Iterable[Delivery]) -> None:
        with self._lock:
            for delivery in deliveries:
                self.objects.pop((delivery.bucket, delivery.path), None)

    def clear(self, job_type: str, user_id: str, job_id: str) -> None:
        folder = f"{user_id}/{job_id}/"
        with self._lock:
            for bucket, path in list(self.objects):
                if bucket == job_type and path.startswith(folder):
                    del self.objects[bucket, path]


class CallbackRecorder:
    """Remembers what it was told; `answers` are given in turn before every callback is accepted.

    `fail` may raise for a job id before its image is adopted.
    """

    def __init__(
        self,
        answers: Iterable[Verdict] = (),
        *,
        repeats: bool = False,
        fail: Callable[[str], None] = lambda _job_id: None,
    ) -> None:
        self._answers = iter(answers)
        self._fail = fail
        self.repeats = repeats
        self.announced: list[str] = []
        self.outcomes: list[Outcome] = []
        self.adopted: list[str] = []

    def announce(self, job_id: str, metadata: Mapping[str, Any]) -> None:
        self.announced.append(job_id)

    def send(self, outcome: Outcome, user_id: str) -> Verdict:
        self.outcomes.append(outcome)
        return next(self._answers, Verdict("accepted", "200"))

    def adopt_image(self, outcome: Outcome) -> None:
        self._fail(outcome.job_id)
        self.adopted.append(outcome.job_id)


def unreachable(times: int) -> Callable[[str], None]:
    """A `fail`: the first so many calls do not get through."""
    left = [times]

    def fail(_path: str) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise Unreachable("storage answered 503")

    return fail


def _plain_output(index: int, seed: int, params: SamplingParams) -> Output:
    import numpy as np

    colour = np.array([seed % 251, (seed // 251) % 251, index * 40 % 251], dtype=np.uint8)
    ramp = (np.arange(params.width)[:, None] + 3 * np.arange(params.frames)[:, None, None, None]) % 32
    frames = np.broadcast_to(colour + ramp.astype(np.uint8), (params.frames, params.height, params.width, 3)).copy()
    return Output(index=index, seed=seed, frames=frames)
