"""LoRAs by name: what a deployment offers, and what of it a job wants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from workers.errors import Rejected
from workers.job import Job, Lora

MOST = 3
STRONGEST = 4.0
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LoraFile:
    """One LoRA that jobs may ask for: a safetensors file below MODEL_ROOT, for the worker kind `base`.

    `triggers` are the words that it was trained to answer to; they are added to prompts.
    """

    file: str
    sha256: str
    base: str
    max_strength: float = 1.0
    triggers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".safetensors":
            raise ValueError("`file` must be a .safetensors file below MODEL_ROOT")
        if not SHA256.fullmatch(self.sha256):
            raise ValueError("`sha256` must be the file's SHA-256 in 64 small hexadecimal digits")
        if not 0 < self.max_strength <= STRONGEST:
            raise ValueError(f"`max_strength` must be above 0 and at most {STRONGEST:g}")


Offered = Mapping[str, LoraFile]


def wanted(job: Job, kind: str, offered: Offered, adjusted: dict[str, list[Any]]) -> tuple[Lora, ...]:
    """What `metadata.loras` asks for. A strength out of bounds is moved and reported; whatever else is not offered
    here raises `Rejected`: a picture in another style than the one asked for helps nobody."""
    asked = job.metadata.get("loras")
    if asked is None:
        return ()
    if not isinstance(asked, list) or not all(isinstance(item, dict) for item in asked):
        raise Rejected("The LoRAs must be a list of names and strengths.", field="loras")
    if len(asked) > MOST:
        raise Rejected(f"At most {MOST} LoRAs can be combined.", field="loras")
    chosen = tuple(_lora(item, kind, offered, adjusted) for item in asked)
    if len({lora.name for lora in chosen}) < len(chosen):
        raise Rejected("A LoRA is named twice.", field="loras")
    return chosen


def triggers(chosen: tuple[Lora, ...], offered: Offered) -> tuple[str, ...]:
    """The words that those which count are called by."""
    return tuple(word for lora in chosen if lora.strength for word in offered[lora.name].triggers)


def _lora(item: Mapping[str, Any], kind: str, offered: Offered, adjusted: dict[str, list[Any]]) -> Lora:
    name, strength = item.get("name"), item.get("strength", 1.0)
    if not isinstance(name, str) or name not in offered:
        raise Rejected("There is no LoRA of this name.", field="loras")
    if offered[name].base != kind:
        raise Rejected("This LoRA is for another model.", field="loras")
    if isinstance(strength, bool) or not isinstance(strength, (int, float)):
        raise Rejected("The strength of a LoRA must be a number.", field="loras")
    used = float(min(max(strength, 0.0), offered[name].max_strength))
    if used != strength:
        adjusted[f"lora {name}"] = [strength, used]
    return Lora(name, used)
