"""`config/prompts.toml` as frozen tables: what may be added to prompts, and how the enhancer is asked and read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.errors import Misconfigured
from workers.job import Media

RULES = Path(__file__).resolve().parents[2] / "config" / "prompts.toml"
WRONG_VALUE = 64

Budget = Literal["chunk", "fit"]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(Table):
    """A text encoder: `tokens` is what one pass takes, `chunks` whether additions may open a further one, `weights`
    whether it reads `(word:1.3)`."""

    tokens: int = Field(default=0, ge=0)
    chunks: bool = False
    weights: bool = False
    base_negative: str = ""


class Style(Table):
    """Style words, the most important first; `adult` ones join at the adult rating only."""

    words: tuple[str, ...] = ()
    adult: tuple[str, ...] = ()


class Category(Table):
    """Negative terms in groups, the most important group first. No budget drops what is `always` there."""

    name: str
    groups: tuple[tuple[str, ...], ...]
    always: bool = False
    adult: bool = False


class Template(Table):
    """How the enhancer is asked. The base model continues `completion` until a `stop` string; the Instruct model
    gets `system` and `user`. `{prompt}` stands for the user's text."""

    completion: str
    system: str
    user: str
    stop: tuple[str, ...] = ()


class GuardRules(Table):
    """How an answer is read. Phrases and words are lower case; `preambles`, `epilogues` and `talk` are regular
    expressions."""

    refusals: tuple[str, ...]
    preambles: tuple[str, ...] = ()
    epilogues: tuple[str, ...] = ()
    talk: tuple[str, ...] = ()
    function_words: frozenset[str] = frozenset()
    foreign_words: frozenset[str] = frozenset()


class EnhanceRules(Table):
    """Temperature 0 takes the likeliest token every time; otherwise the job's seed decides."""

    templates: Mapping[Media, Template]
    guard: GuardRules
    max_new_tokens: int = Field(default=512, ge=1, le=512)
    max_words: int = Field(default=200, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    repetition_penalty: float = Field(default=1.0, gt=0)


class PromptRules(Table):
    """A kind of job is written `{worker kind}_{media}`; one without entries gets nothing added.

    `tiers` go from the mildest on. `redundant` are sets of terms that say the same. `negatives` stand in order of
    priority, and `coverage` says how many groups of each a kind of job gets.
    """

    tiers: tuple[str, ...]
    redundant: tuple[frozenset[str], ...] = ()
    models: Mapping[str, Model]
    styles: Mapping[str, Mapping[str, Style]]
    coverage: Mapping[str, Mapping[str, int]]
    negatives: tuple[Category, ...]
    enhance: EnhanceRules
    budget: Budget = "chunk"


def load_rules(path: Path = RULES, *, budget: Budget = "chunk") -> PromptRules:
    """Read the data file. Raises `Misconfigured` with all its problems; exit code 64."""
    try:
        rules = PromptRules.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = [f"{path.name} {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise Misconfigured(problems, exit_code=WRONG_VALUE) from None
    except (OSError, ValueError) as error:
        raise Misconfigured([f"{path} cannot be read: {error}"], exit_code=WRONG_VALUE) from None
    problems = [f"{path.name} {problem}" for problem in _loose_ends(rules)]
    if problems:
        raise Misconfigured(problems, exit_code=WRONG_VALUE)
    return rules.model_copy(update={"budget": budget})


def _loose_ends(rules: PromptRules) -> Iterator[str]:
    """What each table allows by itself and the file as a whole does not."""
    for tier in sorted(rules.styles.keys() ^ set(rules.tiers)):
        yield f"styles.{tier}: a tier stands both in `tiers` and in `styles`"
    groups = {category.name: len(category.groups) for category in rules.negatives}
    for kind, wanted in rules.coverage.items():
        for name, number in wanted.items():
            if not 0 <= number <= groups.get(name, -1):
                yield f"coverage.{kind}.{name}: {number} is not among the {groups.get(name, 0)} groups of {name}"
    for media in ("image", "video"):
        template = rules.enhance.templates.get(media)
        if template is None or "{prompt}" not in template.completion or "{prompt}" not in template.user:
            yield f"enhance.templates.{media}: `completion` and `user` must both hold {{prompt}}"
    guard = rules.enhance.guard
    for pattern in guard.preambles + guard.epilogues + guard.talk:
        if not _compiles(pattern):
            yield f"enhance.guard: {pattern!r} is not a regular expression"


def _compiles(pattern: str) -> bool:
    try:
        return bool(re.compile(pattern))
    except re.error:
        return False
