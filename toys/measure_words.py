"""How well the enhancer toy keeps to a prompt: its own answers to prompts it never saw, before any guard mends them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toys.train_qwen import exchange
from toys.words import BY_MOTION, PLURALS
from toys.world import COLOURS, SHAPES
from workers.cli.small import HUGGINGFACE
from workers.engines.qwen.guard import content_words, loops, words
from workers.engines.qwen.snapshot import REPOSITORIES, Variant
from workers.job import Media
from workers.prompting.rules import load_rules
from workers.watch import Watch

NAMES: Mapping[str, str] = {name: name for name in (*COLOURS, *SHAPES)} | {
    PLURALS.get(shape, f"{shape}s"): shape for shape in SHAPES
}
"""Word -> the colour or shape that it names."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt for the enhancer, and the medium it is meant for."""

    prompt: str
    media: Media
    seed: int


def held_out(number: int) -> list[Asked]:
    """Prompts of the world, none of training's: half of them for pictures, half for clips."""
    chance, found = random.Random("held out"), list[Asked]()
    media: Sequence[Media] = ("image", "video")
    while len(found) < number:
        wanted = media[len(found) % 2]
        prompt, _ = exchange(wanted, chance)
        if len(prompt.split()) > 2:
            found.append(Asked(prompt, wanted, len(found)))
    return found


def enhancer(weights: Path, variant: Variant) -> Any:
    """The engine on the toy in `weights`, a MODEL_ROOT."""
    from workers.engines.qwen.engine import QwenEnhancer
    from workers.engines.qwen.snapshot import find_snapshot

    engine = QwenEnhancer(
        find_snapshot(weights / HUGGINGFACE, variant), device="cpu", variant=variant, rules=load_rules().enhance
    )
    engine.load(Watch())
    return engine


def answer(engine: Any, asked: Asked) -> str:
    """What the model says, without the guard."""
    said: str = engine._answer(engine._question(asked.prompt, asked.media, asked.seed), Watch()).text
    return said


def keeps_facts(prompt: str, said: str) -> bool:
    """Every word of the prompt is there, no other colour, shape or motion is named, and nothing goes round in
    circles."""
    found = words(said)
    kept = set(content_words(prompt, load_rules().enhance.guard)) <= set(found)
    return kept and facts(said) <= facts(prompt) and not loops(found)


def facts(text: str) -> set[str]:
    """Colours, shapes and motions that a text names."""
    said = words(text)
    lower = " ".join(said)
    ways = {way for way, phrases in BY_MOTION.items() if any(re.search(rf"\b{phrase}\b", lower) for phrase in phrases)}
    return {NAMES[word] for word in said if word in NAMES} | ways


def share_kept(asked: Sequence[Asked], answers: Sequence[str], *, shuffled: bool = False) -> float:
    """The part of the answers that keep their prompt's facts; `shuffled` holds each to the next prompt."""
    prompts = [each.prompt for each in asked]
    if shuffled:
        prompts = prompts[1:] + prompts[:1]
    return sum(map(keeps_facts, prompts, answers)) / len(prompts)


def measure_words(weights: Path, number: int) -> dict[str, float]:
    """The share of answers that keep the facts, by variant, as right and as shuffled; nothing where no toy is there."""
    found, asked = dict[str, float](), held_out(number)
    for variant in REPOSITORIES if (weights / HUGGINGFACE).is_dir() else ():
        engine = enhancer(weights, variant)
        answers = [answer(engine, each) for each in asked]
        for name, shuffled in ((variant, False), (f"{variant}, shuffled", True)):
            found[f"enhancer {name}"] = share_kept(asked, answers, shuffled=shuffled)
    return found
