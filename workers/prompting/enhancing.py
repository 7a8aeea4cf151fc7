"""A prompt in better words: written by a model that nobody trusts, read by the gate, forgotten where it is blocked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from workers.errors import Rejected
from workers.job import Job, Media, Rating
from workers.prompting.prompt import Enhancement
from workers.watch import Watch


class Enhancer(Protocol):
    """Rewrites a prompt; never fails a job, says in `status` when it kept the original."""

    @property
    def model_name(self) -> str: ...
    def load(self, watch: Watch) -> None: ...
    def warm_up(self, watch: Watch) -> None: ...
    def enhance(self, prompt: str, media: Media, seed: int, watch: Watch) -> Enhancement: ...
    def forget(self, prompt: str) -> None: ...


class Gate(Protocol):
    def admit(self, job: Job) -> Rating: ...


def enhanced(enhancer: Enhancer, gate: Gate, job: Job, media: Media, seed: int, watch: Watch) -> Enhancement:
    """Raises `Rejected` where the gate blocks the new text, which then stays nowhere; or what stops the watch."""
    made = enhancer.enhance(job.prompt, media, seed, watch)
    try:
        gate.admit(replace(job, prompt=made.text))
    except Rejected:
        enhancer.forget(job.prompt)
        raise
    return made


def account(enhancer: Enhancer, made: Enhancement, timings: Mapping[str, float]) -> dict[str, Any]:
    """For a job's metadata. `share` is the enhancer's part of the time spent on the job so far, without its wait."""
    spent = sum(seconds for phase, seconds in timings.items() if phase != "wait")
    return {
        "enhancement": made.status,
        "enhancement_details": {
            "model": enhancer.model_name,
            "tokens": made.tokens,
            "seconds": round(made.seconds, 3),
            "cached": made.cached,
            "share": round(min(1.0, made.seconds / spent), 3) if spent else 0.0,
        },
    }
