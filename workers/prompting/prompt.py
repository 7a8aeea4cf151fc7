"""What the model is given to read: the user's words, then style words and negatives by tier, priority and budget.

Nothing here depends on a tokenizer: who has one passes `count`, the number of tokens of a text without the encoder's
own begin and end marks.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from workers.job import Job, Preset, Rating
from workers.prompting import emphasis
from workers.prompting.rules import Model, PromptRules, Style

Count = Callable[[str], int]
Part = Literal["prompt", "negative_prompt"]
Fate = Literal["added", "no room", "said already", "repeated"]
PLAIN = re.compile(r"\w+(?:[/.'-]\w+)*|[,.;:!?]")


@dataclass(frozen=True, slots=True)
class Term:
    """One addition; `source` is a tier, a category of negatives, model or user. `always`: no budget drops it."""

    text: str
    source: str
    always: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one term: of an addition, or of a repetition in the user's own negative prompt."""

    part: Part
    term: Term
    fate: Fate


@dataclass(frozen=True, slots=True)
class ComposedPrompt:
    """Both prompts as the engine gets them, and what was decided on the way, in order of priority. Token counts are
    None where no tokenizer was at hand."""

    prompt: str
    negative_prompt: str
    tier: str
    decisions: tuple[Decision, ...] = ()
    tokens: int | None = None
    negative_tokens: int | None = None

    @property
    def added(self) -> tuple[str, ...]:
        return tuple(decision.term.text for decision in self.decisions if decision.fate == "added")

    @property
    def dropped(self) -> tuple[str, ...]:
        """What the budget left out, and repetitions in the user's own negative prompt."""
        return tuple(d.term.text for d in self.decisions if d.fate in ("no room", "repeated"))


@dataclass(frozen=True, slots=True)
class Enhancement:
    """What the enhancer made of a prompt. `text` is fit for use whatever the status: the prompt itself unless done."""

    text: str
    status: Literal["done", "refused", "failed", "timeout", "off"]
    tokens: int = 0
    seconds: float = 0.0
    cached: bool = False


def compose(
    job: Job,
    preset: Preset,
    rules: PromptRules,
    *,
    rating: Rating,
    text: str | None = None,
    count: Count | None = None,
    triggers: Sequence[str] = (),
) -> ComposedPrompt:
    """The job's two prompts. `text` replaces the payload's prompt where an enhancer wrote one; `triggers` are added
    before all style."""
    tier = choose_tier(job, preset, rules)
    model = rules.models.get(preset.kind, Model())
    own = _own_words(job, text, model)
    if job.raw_prompt:
        return _counted(ComposedPrompt(own, job.negative_prompt, tier), count)
    kind = f"{preset.kind}_{preset.media}"
    unwanted, again = _distinct(job.negative_prompt)
    fits = None if model.chunks and rules.budget == "chunk" else count
    room = _Room(model.tokens, fits)
    style = [Term(word, "lora", always=True) for word in triggers] + _style(kind, tier, rating, rules)
    prompt, of_prompt = _extended("prompt", own, style, rules, room)
    negative, of_negative = _extended("negative_prompt", unwanted, _negatives(kind, model, rating, rules), rules, room)
    repeated = tuple(Decision("negative_prompt", Term(term, "user"), "repeated") for term in again)
    return _counted(ComposedPrompt(prompt, negative, tier, repeated + of_prompt + of_negative), count)


@dataclass(frozen=True, slots=True)
class _Room:
    """How many tokens additions may fill a text up to; any number where nothing counts them."""

    tokens: int
    count: Count | None

    def holds(self, text: str) -> bool:
        return self.count is None or self.count(text) <= self.tokens


def choose_tier(job: Job, preset: Preset, rules: PromptRules) -> str:
    """The platform's choice, else the preset's; the client's own metadata can only make it milder."""
    chosen = job.tier if job.tier in rules.tiers else preset.tier
    wish = job.metadata.get("tier")
    if wish in rules.tiers and chosen in rules.tiers:
        return min(chosen, str(wish), key=rules.tiers.index)
    return chosen


def _own_words(job: Job, text: str | None, model: Model) -> str:
    words = job.prompt if text is None else text
    weighted = job.compel_weights if model.weights else emphasis.plain(job.compel_weights)
    return _joined(words, [Term(weighted, "user")], "prompt") if weighted else words


def _style(kind: str, tier: str, rating: Rating, rules: PromptRules) -> list[Term]:
    style = rules.styles.get(tier, {}).get(kind, Style())
    return [Term(word, f"tier {tier}") for word in style.words + (style.adult if rating == "adult" else ())]


def _negatives(kind: str, model: Model, rating: Rating, rules: PromptRules) -> list[Term]:
    covered = rules.coverage.get(kind, {})
    base = [Term(model.base_negative, "model", always=True)] if model.base_negative else []
    return base + [
        Term(text, category.name, category.always)
        for category in rules.negatives
        if rating == "adult" or not category.adult
        for group in category.groups[: covered.get(category.name, 0)]
        for text in group
    ]


def _extended(
    part: Part, own: str, terms: list[Term], rules: PromptRules, room: _Room
) -> tuple[str, tuple[Decision, ...]]:
    """The user's text with the terms that are new to it, but for the least important ones until all of it fits."""
    new = _unsaid(part, own, terms, rules)
    loose = [term for term in new if not term.always]

    def with_first(number: int) -> list[Term]:
        return [term for term in new if term.always or term in loose[:number]]

    def too_long(number: int) -> bool:
        return not room.holds(_joined(own, with_first(number), part))

    kept = with_first(bisect_left(range(1, len(loose) + 1), True, key=too_long))
    fates: list[Fate] = ["added" if t in kept else "no room" if t in new else "said already" for t in terms]
    decisions = tuple(Decision(part, term, fate) for term, fate in zip(terms, fates, strict=True))
    return _joined(own, kept, part), decisions


def _unsaid(part: Part, own: str, terms: list[Term], rules: PromptRules) -> list[Term]:
    """The terms that neither the user nor an earlier term says already, in the same or in other words.

    A style word may be said anywhere in a sentence; a negative only as a term between commas. What must always be
    there is said by itself alone, and not by a user who plays it down.
    """
    said, firmly, new = _spaced(emphasis.plain(own)), _spaced(emphasis.plain(own, floor=1.0)), list[Term]()
    for term in terms:
        same = {term.text} if term.always else {term.text}.union(*(s for s in rules.redundant if term.text in s))
        where = firmly if term.always else said
        if not any((_spaced(t)[1:-1] if part == "prompt" else _spaced(t)) in where for t in same):
            new.append(term)
            said, firmly = said + _spaced(term.text), firmly + _spaced(term.text)
    return new


def _spaced(text: str) -> str:
    """Words and marks apart by single spaces, between commas, without case and brackets."""
    return f", {' '.join(PLAIN.findall(text.lower()))} ,"


def _joined(own: str, terms: list[Term], part: Part) -> str:
    """The user's text, then the terms; unchanged where there are none. Prose may end with a full stop."""
    if not terms:
        return own
    words = own.strip().rstrip(",")
    gap = "" if not words else " " if part == "prompt" and words[-1] in ".!?" else ", "
    return words + gap + ", ".join(term.text for term in terms)


def _distinct(negative: str) -> tuple[str, list[str]]:
    """The user's comma-separated terms, each once where it came first, and the repetitions."""
    first: dict[str, str] = {}
    again = []
    for term in _terms(negative):
        key = " ".join(term.lower().split())
        if key in first:
            again.append(term)
        first.setdefault(key, term)
    return ", ".join(first.values()) if again else negative, again


def _terms(text: str) -> Iterator[str]:
    """Split at commas outside brackets, so that a weighted group stays one term."""
    depth, start = 0, 0
    for i, mark in enumerate(f"{text},"):
        depth = max(0, depth + (mark in "([") - (mark in ")]"))
        if mark == "," and (depth == 0 or i == len(text)):
            if term := text[start:i].strip():
                yield term
            start = i + 1


def _counted(composed: ComposedPrompt, count: Count | None) -> ComposedPrompt:
    if count is None:
        return composed
    return replace(composed, tokens=count(composed.prompt), negative_tokens=count(composed.negative_prompt))
