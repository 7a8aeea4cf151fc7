"""What stands around a caption in this deployment: style words and negatives, as jobs have them added."""

from __future__ import annotations

import random
from dataclasses import dataclass

from toys.words import padded
from workers.job import Job, Media
from workers.prompting.prompt import compose
from workers.prompting.rules import PromptRules, load_rules
from workers.tables import load_presets

EVERYDAY = (
    "a lighthouse at dusk", "a wooden table by the window", "waves rolling in", "morning light", "a quiet beach",
    "a paper boat on a pond", "soft rain", "an old bicycle", "two dogs", "a bowl of fruit", "mountains far away",
)  # fmt: skip
"""Phrases outside the world: a toy learns that they say nothing."""
PLAIN_SHARE = 0.55
EXACT_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Fillers:
    """`styles` are what the tiers append to a prompt, `negatives` what stands in negative prompts, both as worded for
    one kind of job; `phrases` are their terms."""

    styles: tuple[str, ...]
    negatives: tuple[str, ...]
    phrases: tuple[str, ...]

    def around(self, core: str, chance: random.Random) -> str:
        """The core as a prompt or a negative prompt has it: alone, before the exact words, or before some of them."""
        draw = chance.random()
        if draw < PLAIN_SHARE:
            return core
        if draw < PLAIN_SHARE + EXACT_SHARE:
            return _joined(core, chance.choice(self.styles + self.negatives))
        return padded(core, self.some(chance, chance.randint(1, 8)), chance, before=chance.random() < 0.25)

    def some(self, chance: random.Random, number: int) -> tuple[str, ...]:
        phrases = self.phrases if chance.random() < 0.85 else EVERYDAY
        return tuple(chance.choice(phrases) for _ in range(number))


def fillers(kind: str, media: Media) -> Fillers:
    """For the jobs of one worker kind and medium, from the deployment's own rules."""
    rules = load_rules()
    styles = sorted({_composed(rules, kind, media, tier)[0] for tier in rules.tiers} - {""})
    negatives = sorted({_composed(rules, kind, media, tier)[1] for tier in rules.tiers})
    terms = {term.strip() for text in (*styles, *negatives) for term in text.split(",")}
    return Fillers(tuple(styles), tuple(negatives), tuple(sorted(terms - {""})))


def _composed(rules: PromptRules, kind: str, media: Media, tier: str) -> tuple[str, str]:
    preset = next(p for p in load_presets().values() if (p.kind, p.media) == (kind, media))
    job = Job(id="", type=preset.type, user_id="", prompt="", tier=tier)
    composed = compose(job, preset, rules, rating="sfw")
    return composed.prompt, composed.negative_prompt


def _joined(core: str, more: str) -> str:
    return f"{core}, {more}" if core else more
