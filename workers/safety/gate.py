"""The gates a job passes before it costs anything, and what is written down of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.errors import EngineBroken
from workers.job import Job, Rating, SamplingParams
from workers.safety.audit import Chain
from workers.safety.block import ADULT, REQUEST, Blocked, recording
from workers.safety.lexicon import Lexicon
from workers.safety.output import Screen
from workers.safety.prompt import Wording, judge
from workers.safety.reference import ReferenceGate
from workers.safety.staged import UNFIT

if TYPE_CHECKING:
    from workers.job import Picture


@dataclass(frozen=True, slots=True)
class Policy:
    """A deployment's ceiling, and what a payload without a rating counts as."""

    ceiling: Rating = "sfw"
    default: Rating = "sfw"

    def rating(self, job: Job) -> Rating:
        """The lower of the ceiling and the job's own wish."""
        return "adult" if self.ceiling == (job.rating or self.default) == "adult" else "sfw"


@dataclass(frozen=True, slots=True)
class SafetyGate:
    """G1 and G2. Every refusal is a `Blocked` and a line in the audit; no tier and no field of a payload switches
    anything off. `references` is where pictures are judged, `screen` what looks at them and later at the results."""

    policy: Policy
    lexicon: Lexicon
    screen: Screen
    references: ReferenceGate
    audit: Chain
    persons: frozenset[str] = frozenset()

    def check(self) -> None:
        """Raises `EngineBroken` with exit code 73 once a scorer has failed: nothing more can be judged here."""
        if self.screen.broken:
            raise EngineBroken("a safety scorer failed", exit_code=UNFIT)

    def problem(self) -> str | None:
        """Why nothing can be decided now, after something could not be written down."""
        return self.audit.problem()

    def blocked(self) -> list[str]:
        """The prompts of jobs that were blocked since this was asked last: no cache may keep them."""
        return [self.screen.blocked.popleft() for _ in range(len(self.screen.blocked))]

    def admit(self, job: Job, also: Sequence[str] = ()) -> Rating:
        """The rating a job runs under. `also` are further words that the model will be shown, such as the trigger words
        of its LoRAs. Asked again for what an enhancer wrote, with that in the place of the prompt."""
        rating = self.policy.rating(job)
        with _audited(self._refused, job, rating):
            shown = [job.prompt, job.compel_weights, job.character, *also]
            said = Wording(shown, job.negative_prompt)
            if rule := judge(said, self.lexicon, adult=rating == "adult", persons=self.persons):
                raise Blocked("G1", rule, REQUEST, field="prompt")
            if rating == "adult" and not self.screen.judges_age:
                raise Blocked("G1", "no_age_scorer", ADULT, field="rating")
        return rating

    def admit_references(self, job: Job, rating: Rating, pictures: Mapping[str, Picture]) -> None:
        """`pictures` are by role; none where a remembered character is asked for."""
        with _audited(self._refused, job, rating):
            self.references.admit(job, rating, pictures)

    def admitted(self, job: Job, rating: Rating, params: SamplingParams) -> None:
        """A job passed and is about to be made, with these prompts. Raises `Unrecorded`: what cannot be written down is
        not made."""
        pictures = params.guide.pictures if params.guide else {}
        facts = self._facts(job, rating) | {
            "shown": self.audit.mac(params.prompt),
            "shown_negative": self.audit.mac(params.negative_prompt),
            "seeds": list(params.seeds),
            "references": {role: picture.sha256 for role, picture in pictures.items()},
        }
        with recording(job.id):
            self.audit.write("admitted", **facts)

    def _refused(self, job: Job, rating: Rating, blocked: Blocked) -> None:
        self.screen.blocked.append(job.prompt)
        facts = self._facts(job, rating)
        self.audit.write("blocked", **facts, gate=blocked.gate, rule=blocked.rule, **blocked.facts)

    def _facts(self, job: Job, rating: Rating) -> dict[str, Any]:
        return {
            "job": job.id,
            "type": job.type,
            "user": self.audit.mac(job.user_id),
            "rating": rating,
            "prompt": self.audit.mac(job.prompt),
            "negative": self.audit.mac(job.negative_prompt),
            "consent": job.consent_id,
            "lists": self.lexicon.version,
            "scorers": self.screen.versions,
        }


@contextmanager
def _audited(write: Callable[[Job, Rating, Blocked], None], job: Job, rating: Rating) -> Iterator[None]:
    """A refusal within is written down, else nothing is refused yet. Raises `Unrecorded` then."""
    try:
        yield
    except Blocked as blocked:
        with recording(job.id):
            write(job, rating, blocked)
        raise
