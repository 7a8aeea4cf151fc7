"""What an engine makes is looked at, and made once more in another way where something is wrong with it.

The same parameters give the same pixels, so repeating them is no use. A size that the model handles badly gives way to
the one that the preset names as stable; else an output whose seed nobody asked for gets another seed. A seed that was
asked for is the user's: then the job fails with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workers.errors import Rejected
from workers.job import Output, SamplingParams, Size
from workers.logs import log
from workers.resolve import SEEDS

Generate = Callable[[SamplingParams], list[Output]]
Inspect = Callable[[Output, SamplingParams], str | None]

NO_NUMBERS = "no numbers"
FAILED = "What was made came out wrong. Please try again with another prompt or seed."
APART = 2**31
"""To the other seed: default seeds lie below it, so no other image of the job has it."""


@dataclass(frozen=True, slots=True)
class Made:
    """Outputs with the parameters that they were made with; `notes` are for the job's metadata."""

    params: SamplingParams
    outputs: list[Output]
    notes: Mapping[str, Any] = field(default_factory=dict)


def make(
    generate: Generate, inspect: Inspect, params: SamplingParams, *, stable: Size | None, seeds_are_free: bool
) -> Made:
    """`stable` is the size to go to from this one, where there is one. Raises `Rejected` where nothing helps."""
    outputs, flaws = _looked_at(generate, inspect, params)
    if not flaws:
        return Made(params, outputs)
    reason = next(iter(flaws.values()))
    log.warning("output flawed", type=params.type, reason=reason, outputs=len(flaws))
    if stable is not None:
        again, notes = _resized(params, stable)
        outputs, flaws = _looked_at(generate, inspect, again)
    elif seeds_are_free:
        again, notes = _reseeded(params, flaws)
        outputs, flaws = _repaired(generate, inspect, again, outputs, flaws)
    if flaws:
        raise Rejected(FAILED, code="failed")
    return Made(again, outputs, {"fallback": {"reason": reason, **notes}})


def _looked_at(generate: Generate, inspect: Inspect, params: SamplingParams) -> tuple[list[Output], dict[int, str]]:
    """The outputs, and index -> what is wrong with one."""
    try:
        outputs = generate(params)
    except FloatingPointError:
        return [], dict.fromkeys(range(len(params.seeds)), NO_NUMBERS)
    return outputs, {output.index: flaw for output in outputs if (flaw := inspect(output, params))}


def _resized(params: SamplingParams, size: Size) -> tuple[SamplingParams, dict[str, Any]]:
    sizes = [f"{params.width}*{params.height}", f"{size[0]}*{size[1]}"]
    return replace(params, width=size[0], height=size[1]), {"size": sizes}


def _reseeded(params: SamplingParams, flaws: Mapping[int, str]) -> tuple[SamplingParams, dict[str, Any]]:
    seeds = tuple((seed + APART) % SEEDS if index in flaws else seed for index, seed in enumerate(params.seeds))
    return replace(params, seeds=seeds), {"seeds": [[params.seeds[index], seeds[index]] for index in sorted(flaws)]}


def _repaired(
    generate: Generate, inspect: Inspect, params: SamplingParams, outputs: list[Output], flaws: Mapping[int, str]
) -> tuple[list[Output], dict[int, str]]:
    """The outputs with those that were flawed made anew, and what is still wrong."""
    places = sorted(flaws)
    anew, still = _looked_at(generate, inspect, replace(params, seeds=tuple(params.seeds[i] for i in places)))
    good = {output.index: output for output in outputs if output.index not in flaws}
    good |= {place: replace(output, index=place) for place, output in zip(places, anew, strict=False)}
    return [good[index] for index in sorted(good)], still
