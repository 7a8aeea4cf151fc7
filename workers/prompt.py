"""What the model is given to read: the user's words, then style words and negatives by tier, priority and budget.

Nothing here depends on a tokenizer: who has one passes `count`, the number of tokens of a text without the encoder's
own begin and end marks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from workers.job import Job, Preset, Rating
from workers.prompt_rules import Model, PromptRules, Style

Count = Callable[[str], int]
WEIGHT = re.compile(r":\s*[+-]?\d*\.?\d+\s*(?=[)\]])")
PLAIN = re.compile(r"\w+(?:[/.'-]\w+)*|[,.;:!?]")


@dataclass(frozen=True, slots=True)
class ComposedPrompt:
    """Both prompts as the engine gets them. `dropped`: what the budget left out, and repetitions in the user's own
    negative. Token counts are None where no tokenizer was at hand."""

    prompt: str
    negative_prompt: str
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    tier: str
    tokens: int | None = None
    negative_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Enhancement:
    """What the enhancer made of a prompt. `text` is fit for use whatever the status: the prompt itself unless done."""

    text: str
    status: Literal["done", "refused", "failed", "timeout", "off"]
    tokens: int = 0
    seconds: float = 0.0
    cached: bool = False


@dataclass(frozen=True, slots=True)
class _Term:
    """One addition. `always`: no budget drops it."""

    text: str
    always: bool = False


def compose(
    job: Job, preset: Preset, rules: PromptRules, *, rating: Rating, text: str | None = None, count: Count | None = None
) -> ComposedPrompt:
    """The job's two prompts. `text` replaces the payload's prompt where an enhancer wrote one."""
    tier = choose_tier(job, preset, rules)
    model = rules.models.get(preset.kind, Model())
    own = _own_words(job, text, model)
    if job.raw_prompt:
        return _counted(ComposedPrompt(own, job.negative_prompt, (), (), tier), count)
    kind = f"{preset.kind}_{preset.media}"
    unwanted, again = _distinct(job.negative_prompt)
    words = _unsaid(own, _style(kind, tier, rating, rules), rules, anywhere=True)
    negatives = _unsaid(unwanted, _negatives(kind, model, rating, rules), rules, anywhere=False)
    fits = None if model.chunks and rules.budget == "chunk" else count
    prompt, kept, cut = _extended(own, words, model.tokens, fits, prose=True)
    negative, kept_negatives, cut_negatives = _extended(unwanted, negatives, model.tokens, fits, prose=False)
    composed = ComposedPrompt(
        prompt=prompt,
        negative_prompt=negative,
        added=tuple(term.text for term in kept + kept_negatives),
        dropped=(*again, *(term.text for term in cut + cut_negatives)),
        tier=tier,
    )
    return _counted(composed, count)


def choose_tier(job: Job, preset: Preset, rules: PromptRules) -> str:
    """The platform's choice, else the preset's; the client's own metadata can only make it milder."""
    chosen = job.tier if job.tier in rules.tiers else preset.tier
    wish = job.metadata.get("tier")
    if wish in rules.tiers and chosen in rules.tiers:
        return min(chosen, str(wish), key=rules.tiers.index)
    return chosen


def _own_words(job: Job, text: str | None, model: Model) -> str:
    words = job.prompt if text is None else text
    weighted = job.compel_weights if model.weights else re.sub(r"[()\[\]]", "", WEIGHT.sub("", job.compel_weights))
    return _joined(words, [_Term(weighted)], prose=True) if weighted else words


def _style(kind: str, tier: str, rating: Rating, rules: PromptRules) -> list[_Term]:
    style = rules.styles.get(tier, {}).get(kind, Style())
    return [_Term(word) for word in style.words + (style.adult if rating == "adult" else ())]


def _negatives(kind: str, model: Model, rating: Rating, rules: PromptRules) -> list[_Term]:
    covered = rules.coverage.get(kind, {})
    base = [_Term(model.base_negative, always=True)] if model.base_negative else []
    return base + [
        _Term(text, category.always)
        for category in rules.negatives
        if rating == "adult" or not category.adult
        for group in category.groups[: covered.get(category.name, 0)]
        for text in group
    ]


def _unsaid(own: str, terms: list[_Term], rules: PromptRules, *, anywhere: bool) -> list[_Term]:
    """The terms that neither the user nor an earlier term says already, in the same or in other words.

    A style word may be said anywhere in a sentence; a negative only as a term between commas.
    """
    said, new = _plain(own), list[_Term]()
    for term in terms:
        same = {term.text} if term.always else {term.text}.union(*(s for s in rules.redundant if term.text in s))
        if not any((_plain(t)[1:-1] if anywhere else _plain(t)) in said for t in same):
            new.append(term)
            said += _plain(term.text)
    return new


def _plain(text: str) -> str:
    """Words and marks apart by single spaces, between commas, without case, weights and brackets."""
    return f", {' '.join(PLAIN.findall(WEIGHT.sub('', text.lower())))} ,"


def _extended(
    own: str, terms: list[_Term], limit: int, count: Count | None, *, prose: bool
) -> tuple[str, list[_Term], list[_Term]]:
    """The text with its terms, those kept and those dropped, least important first, until all of it fits."""
    kept, cut = list(terms), list[_Term]()
    loose = [term for term in terms if not term.always]
    text = _joined(own, kept, prose=prose)
    while count is not None and loose and count(text) > limit:
        cut.insert(0, loose.pop())
        kept.remove(cut[0])
        text = _joined(own, kept, prose=prose)
    return text, kept, cut


def _joined(own: str, terms: list[_Term], *, prose: bool) -> str:
    """The user's text, then the terms; unchanged where there are none. Prose may end with a full stop."""
    if not terms:
        return own
    words = own.strip().rstrip(",")
    gap = "" if not words else " " if prose and words[-1] in ".!?" else ", "
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
