"""The life of one job from its message to its pixels: gate, parameters, prompt, generation, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from workers import crash
from workers.claim import Claim
from workers.delivery.parcel import Parcel
from workers.errors import Rejected
from workers.job import Guide, GuideUse, Job, Output, Picture, Preset, Rating, SamplingParams, Turbo
from workers.loras import Offered, triggers
from workers.making import second_try
from workers.making.second_try import Inspect, Made
from workers.prompting import enhancing
from workers.prompting.enhancing import Enhancer
from workers.prompting.prompt import ComposedPrompt, Enhancement
from workers.references.bringing import References, bring, require
from workers.references.guide import account, settled
from workers.resolve import default_seed, fitting, resolve, stable_size
from workers.watch import Watch

WRONG_QUEUE = "This job type is not made by this queue's workers."
UNKNOWN_TYPE = "This job type is not known."


class Engine(Protocol):
    """A model family. `model_hash` names the checkpoint, where it is known; `uses` are the ways in which it can follow
    references, known before it is loaded. `forget` drops every text that it remembers. While jobs have asked for shapes
    that warm-up did not know it is `unrehearsed`, and `rehearse` makes one of them fast."""

    @property
    def model_name(self) -> str: ...
    @property
    def model_hash(self) -> str | None: ...
    @property
    def uses(self) -> frozenset[GuideUse]: ...
    @property
    def unrehearsed(self) -> bool: ...
    def load(self, watch: Watch) -> None: ...
    def warm_up(self, watch: Watch) -> None: ...
    def generate(self, params: SamplingParams, watch: Watch) -> list[Output]: ...
    def rehearse(self, watch: Watch) -> None: ...
    def forget(self) -> None: ...
    def count_tokens(self, text: str) -> int: ...


class Gate(Protocol):
    """`admit` returns the rating a job runs under; `admit_references` looks at what was fetched for it, or at nothing
    where a remembered character is asked for. Both raise `Rejected` with code "policy". `also` are words that are
    shown to the model beside the prompts. `admitted` writes down what is about to be made. `check` raises
    `EngineBroken` once nothing can be judged any more, `problem` says why nothing can be written down. `blocked` are
    the prompts of jobs whose results were blocked since it was asked last."""

    def check(self) -> None: ...
    def problem(self) -> str | None: ...
    def blocked(self) -> list[str]: ...
    def admit(self, job: Job, also: Sequence[str] = ()) -> Rating: ...
    def admitted(self, job: Job, rating: Rating, params: SamplingParams) -> None: ...
    def admit_references(self, job: Job, rating: Rating, pictures: Mapping[str, Picture]) -> None: ...


class Watermark(Protocol):
    """Puts a job's mark into pixels while the card is ours."""

    def load(self, watch: Watch) -> None: ...
    def warm_up(self, watch: Watch) -> None: ...
    def mark(self, outputs: Sequence[Output], job_id: str, watch: Watch) -> list[Output]: ...


class Compose(Protocol):
    """`triggers` are words that belong to what was asked for otherwise, and are never left out for want of room."""

    def __call__(
        self, job: Job, preset: Preset, *, rating: Rating, text: str | None, triggers: Sequence[str]
    ) -> ComposedPrompt: ...


@dataclass(frozen=True, slots=True)
class Maker:
    """What jobs of one kind are made with. `scale` shrinks sizes for small weights."""

    kind: str
    worker: str
    presets: Mapping[str, Preset]
    engine: Engine
    enhancer: Enhancer | None
    gate: Gate
    compose: Compose
    scale: float = 1.0
    references: References | None = None
    loras: Offered = field(default_factory=dict)
    inspect: Inspect | None = None
    watermark: Watermark | None = None

    def tidy(self) -> None:
        """Between two jobs: nothing of a blocked one stays in memory, and nothing more is made where nothing can be
        judged. Raises `EngineBroken`."""
        for prompt in self.gate.blocked():
            self.engine.forget()
            if self.enhancer is not None:
                self.enhancer.forget(prompt)
        self.gate.check()

    def preset(self, job: Job) -> Preset:
        """Raises `Rejected` for a type that is unknown or belongs on another queue."""
        preset = self.presets.get(job.type)
        if preset is None:
            raise Rejected(UNKNOWN_TYPE, field="type")
        if preset.kind != self.kind:
            raise Rejected(WRONG_QUEUE, field="type")
        return preset

    def admit(self, job: Job, preset: Preset) -> tuple[Rating, SamplingParams]:
        """All that can refuse a job before it costs anything."""
        rating, params = self.gate.admit(job), resolve(job, preset, self.scale, self.loras)
        require(params.guide, self.engine.uses)
        return rating, params

    def gather(self, job: Job, preset: Preset, watch: Watch, *, last: bool = False) -> dict[str, Picture]:
        """What the job points at, fetched before it takes the card.

        Raises `Rejected`, or `Unreachable` where another try may do better and this is not the last.
        """
        rating, params = self.admit(job, preset)
        if params.guide is None:
            return {}
        pictures = bring(self.references, job, params, watch, last=last)
        self.gate.admit_references(job, rating, pictures)
        require(settled(params, pictures).guide, self.engine.uses)
        return pictures

    def make(
        self, claim: Claim, job: Job, preset: Preset, watch: Watch, pictures: Mapping[str, Picture] | None = None
    ) -> Parcel:
        """Prompt, pixels, and the account of both. Raises `Rejected`, or what stops the watch."""
        rating, params = self.admit(job, preset)
        if params.guide is not None:
            params = fitting(settled(params, pictures or {}))
            job = _as_guided(job, params.guide)
        enhancement = self._enhance(job, preset, params, watch)
        text = enhancement.text if enhancement else None
        called = triggers(params.loras, self.loras)
        if called:
            self.gate.admit(replace(job, prompt=job.prompt if text is None else text), called)
        composed = self.compose(job, preset, rating=rating, text=text, triggers=called)
        params = replace(params, prompt=composed.prompt, negative_prompt=composed.negative_prompt)
        self.gate.admitted(job, rating, params)
        crash.point("composed")
        made = self._made(job, preset, params, watch)
        params, outputs = made.params, made.outputs
        if self.watermark is not None:
            outputs = self.watermark.mark(outputs, job.id, watch)
        return Parcel(
            claim=claim,
            job_id=job.id,
            user_id=job.user_id,
            params=params,
            outputs=tuple(outputs),
            limit=preset.bucket_limit,
            enhanced_prompt=text,
            metadata=self._account(claim, job, params)
            | _prompt_account(job, composed)
            | self._enhancement_account(enhancement, watch)
            | {"rating": rating, **watch.notes, **made.notes},
        )

    def _enhance(self, job: Job, preset: Preset, params: SamplingParams, watch: Watch) -> Enhancement | None:
        if not preset.enhance or job.raw_prompt or self.enhancer is None:
            return None
        return enhancing.enhanced(self.enhancer, self.gate, job, preset.media, params.seeds[0], watch)

    def _made(self, job: Job, preset: Preset, params: SamplingParams, watch: Watch) -> Made:
        """Raises `Rejected` where what comes out is nothing to show."""

        def generate(params: SamplingParams) -> list[Output]:
            return self.engine.generate(params, watch)

        if self.inspect is None:
            return Made(params, generate(params))
        stable = None if params.guide else stable_size(preset, params, self.scale)
        free = params.seeds[0] == default_seed(job.id)
        return second_try.make(generate, self.inspect, params, stable=stable, seeds_are_free=free)

    def _enhancement_account(self, made: Enhancement | None, watch: Watch) -> dict[str, Any]:
        if made is None or self.enhancer is None:
            return {"enhancement": "off"}
        return enhancing.account(self.enhancer, made, watch.timings)

    def _account(self, claim: Claim, job: Job, params: SamplingParams) -> dict[str, Any]:
        return {
            "model": self.engine.model_name,
            "model_hash": self.engine.model_hash,
            "worker": self.worker,
            "attempt": claim.attempt,
            "fence": claim.fence,
            "job_type": job.type,
            "width": params.width,
            "height": params.height,
            "frames": params.frames,
            "fps": params.fps,
            "steps": params.steps,
            "guidance_scale": params.guidance,
            "shift": params.shift,
            "sampler": params.solver,
            "seed": params.seeds[0],
            "seeds": list(params.seeds),
            "num_images": len(params.seeds),
            "loras": [asdict(lora) for lora in params.loras],
            "adjusted": dict(params.adjusted),
            **({"turbo": _turbo_account(params.turbo)} if params.turbo.on else {}),
            **(account(params.guide, params.media) if params.guide else {}),
        }


def _as_guided(job: Job, guide: Guide | None) -> Job:
    """A copy wants nothing added to its prompt, and nothing kept out of it."""
    return replace(job, raw_prompt=True, negative_prompt="") if guide and guide.copy else job


def _turbo_account(turbo: Turbo) -> dict[str, Any]:
    """What of it was on: a user may see why a picture differs."""
    return {name: value for name, value in asdict(turbo).items() if value != getattr(Turbo(), name) and name != "on"}


def waited(job: Job) -> float:
    """Seconds between the producer's clock at queueing and ours now, 0 where it does not say."""
    try:
        created = datetime.fromisoformat(job.created_at or "")
    except ValueError:
        return 0.0
    aware = created if created.tzinfo else created.replace(tzinfo=UTC)
    return round(max(0.0, (datetime.now(UTC) - aware).total_seconds()), 3)


def _prompt_account(job: Job, composed: ComposedPrompt) -> dict[str, Any]:
    return {
        "original_prompt": job.prompt,
        "prompt": composed.prompt,
        "negative_prompt": composed.negative_prompt,
        "tier": composed.tier,
        "added_terms": list(composed.added),
        "dropped_terms": list(composed.dropped),
    }
