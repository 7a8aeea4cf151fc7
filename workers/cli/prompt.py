"""Show what a model would be sent for a prompt, token by token: no card, no weights, only tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.screen import AsJson, emit, err, out
from workers.cli.submit import NOBODY, preset_of

if TYPE_CHECKING:
    from workers.engines.reading import Chunks, Read
    from workers.job import Job, Preset
    from workers.prompting.prompt import ComposedPrompt

PARTS = ("prompt", "negative_prompt")
ENHANCER = "The enhancer writes this prompt anew before any of this; --enhanced shows what becomes of its text."


class Rating(StrEnum):
    SFW = "sfw"
    ADULT = "adult"


class Budget(StrEnum):
    CHUNK = "chunk"
    FIT = "fit"


Type = Annotated[str, typer.Argument(metavar="TYPE", help="Job type, e.g. sdxl_image_fast.", show_default=False)]
Prompt = Annotated[str, typer.Argument(help="What to show.", show_default=False)]
Negative = Annotated[str, typer.Option(help="What not to show.", show_default=False)]
Weights = Annotated[str, typer.Option(metavar="TEXT", help="The payload's compel_weights.", show_default=False)]
Enhanced = Annotated[str | None, typer.Option(metavar="TEXT", help="What an enhancer made of it.", show_default=False)]
Tier = Annotated[str | None, typer.Option(help="Style words, by default the type's own.", show_default=False)]
Rated = Annotated[Rating, typer.Option(help="Which words may be added; no gate is asked here.")]
Raw = Annotated[bool, typer.Option("--raw", help="As with metadata.raw_prompt: add nothing.")]
Room = Annotated[Budget | None, typer.Option(help="By default PROMPT_BUDGET.", show_default=False)]


@dataclass(frozen=True, slots=True)
class Sent:
    """One of the two texts; `chunks` is None where no tokenizer is at hand."""

    text: str
    chunks: Chunks | None

    def as_json(self) -> dict[str, Any]:
        if self.chunks is None:
            return {"text": self.text, "tokens": None, "chunks": None}
        chunks = [[asdict(piece) for piece in chunk] for chunk in self.chunks]
        return {"text": self.text, "tokens": sum(map(len, chunks)), "chunks": chunks}


def prompt(
    job_type: Type,
    prompt: Prompt,
    *,
    negative: Negative = "",
    weights: Weights = "",
    enhanced: Enhanced = None,
    tier: Tier = None,
    rating: Rated = Rating.SFW,
    raw: Raw = False,
    budget: Room = None,
    as_json: AsJson = False,
) -> None:
    """Show what would be sent to a model for a prompt: every token by chunk, what is added, left out, and why."""
    from workers.known import known_settings
    from workers.prompting.prompt import compose
    from workers.prompting.rules import load_rules

    preset, settings = preset_of(job_type), known_settings().settings
    rules = load_rules(budget=budget.value if budget else settings.prompt_budget)
    if tier is not None and tier not in rules.tiers:
        raise typer.BadParameter(f"there are {', '.join(rules.tiers)}", param_hint="--tier")
    job = _job(preset, prompt, negative_prompt=negative, compel_weights=weights, tier=tier, raw=raw)
    read, notes = _reader(preset.kind, settings.model_root)
    count = (lambda text: sum(map(len, read(text)))) if read else None
    composed = compose(job, preset, rules, rating=rating.value, text=enhanced, count=count)
    texts = {part: getattr(composed, part) for part in PARTS}
    sent = {part: Sent(text, read(text) if read else None) for part, text in texts.items()}
    if preset.enhance and enhanced is None and not raw:
        notes.append(ENHANCER)
    facts = {"type": job_type, "tier": composed.tier, "rating": rating.value, "budget": rules.budget}
    if as_json:
        terms = [{**asdict(d.term), "part": d.part, "fate": d.fate} for d in composed.decisions]
        emit({**facts, **{part: one.as_json() for part, one in sent.items()}, "terms": terms, "notes": notes})
    else:
        _tell(facts, sent, composed)
        for note in notes:
            err().print(note, soft_wrap=True)


def _job(preset: Preset, prompt: str, *, tier: str | None, raw: bool, **texts: str) -> Job:
    """The job that a payload of these words would be, checked as a worker does."""
    from workers import payload
    from workers.errors import Rejected

    words = {"prompt": prompt, "tier": tier, "compel_enabled": True, "metadata": {"raw_prompt": raw}, **texts}
    try:
        return payload.parse(json.dumps({"id": NOBODY, "type": preset.type, "user_id": NOBODY, **words}))
    except Rejected as error:
        raise typer.BadParameter(str(error)) from None


def _reader(kind: str, root: Path) -> tuple[Read | None, list[str]]:
    """How a kind's model reads texts, or what is missing to tell."""
    from workers.card.weights import quiet_libraries

    quiet_libraries()
    if kind not in READERS:
        return None, [f"Nothing is known here of how {kind} reads texts, so nothing is counted."]
    return READERS[kind](root)


def _clip(_: Path) -> tuple[Read | None, list[str]]:
    """CLIP's vocabulary is in config/."""
    from workers.engines.sdxl.encode import reader
    from workers.engines.sdxl.load import tokenizers

    return reader(tokenizers()["tokenizer"]), []


def _umt5(root: Path) -> tuple[Read | None, list[str]]:
    """umT5's lies with the weights, in either layout."""
    from transformers import AutoTokenizer

    from workers.engines.wan.encode import reader
    from workers.tables import load_models

    files = load_models().wan
    places = [root / files.weights / "google" / "umt5-xxl"]
    places += [root / folder / "tokenizer" for folder in (files.weights, files.converted)]
    for place in places:
        if (place / "tokenizer.json").is_file() or (place / "spiece.model").is_file():
            return reader(AutoTokenizer.from_pretrained(place, local_files_only=True)), []
    return None, [f"{places[0]} has no tokenizer, so nothing is counted. Copy it there, or set MODEL_ROOT."]


READERS: Mapping[str, Callable[[Path], tuple[Read | None, list[str]]]] = {"sdxl": _clip, "wan": _umt5}


def _tell(facts: Mapping[str, str], sent: Mapping[str, Sent], composed: ComposedPrompt) -> None:
    screen = out()
    screen.print("  ".join(f"{name} {value}" for name, value in facts.items()))
    for part, one in sent.items():
        screen.print(f"\n{part}: {one.text}")
        for number, chunk in enumerate(one.chunks or (), start=1):
            pieces = (p.text if p.weight == 1.0 else f"{p.text}*{p.weight:.2f}" for p in chunk)
            screen.print(f"  chunk {number}, {len(chunk)} tokens: {' | '.join(pieces)}")
    for (fate, part, source), terms in _grouped(composed).items():
        screen.print(f"\n{fate} ({part}, {source}): {', '.join(terms)}")


def _grouped(composed: ComposedPrompt) -> dict[tuple[str, str, str], list[str]]:
    """Terms by what became of them, where, and where they come from."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for decision in composed.decisions:
        group = decision.fate, decision.part, decision.term.source
        grouped.setdefault(group, []).append(decision.term.text)
    return grouped
