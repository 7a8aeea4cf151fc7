"""What text encoders give to denoisers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Both prompts, ready for the pipeline. `inputs` are its keywords, tensors or lists of them; `notes` are counts for
    the job's metadata."""

    inputs: Mapping[str, Any]
    notes: Mapping[str, int]


class Counted(Protocol):
    """A text as its encoder read it: tokens without marks, in how many passes."""

    @property
    def tokens(self) -> int: ...
    @property
    def chunks(self) -> int: ...


def text_notes(prompt: Counted, negative: Counted | None) -> dict[str, int]:
    """What a job's metadata says of its texts; `negative` is None where no guidance reads it."""
    notes = {"prompt_tokens": prompt.tokens, "prompt_chunks": prompt.chunks}
    if negative is not None:
        notes |= {"negative_tokens": negative.tokens, "negative_chunks": negative.chunks}
    return notes
