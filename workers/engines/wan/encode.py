"""Text to umT5 embeddings: as the pipeline makes them, counted, and kept for texts that come again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workers.engines.conditioning import Conditioning

if TYPE_CHECKING:
    import torch

WINDOW = 512
USABLE = WINDOW - 1
"""Tokens of a text that are read; the last place belongs to the end mark."""

KEPT = 16
"""Texts whose embeddings stay on the device, 4 MB each: most jobs share a negative prompt."""


@dataclass(frozen=True, slots=True)
class EncodedText:
    """One text: `embeds` (1, 512, width), zeros after its true length. `dropped` tokens at its end were not read."""

    embeds: torch.Tensor
    tokens: int
    dropped: int


class TextEncoder:
    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._remembered = lru_cache(maxsize=KEPT)(self._encoded)

    def encode(self, prompt: str, negative: str | None) -> Conditioning:
        """Both texts; `negative` is None where no guidance reads it."""
        wanted = self._remembered(prompt)
        inputs = {"prompt_embeds": wanted.embeds}
        notes = {"prompt_tokens": wanted.tokens, "prompt_dropped_tokens": wanted.dropped}
        if negative is not None:
            unwanted = self._remembered(negative)
            inputs["negative_prompt_embeds"] = unwanted.embeds
            notes |= {"negative_tokens": unwanted.tokens, "negative_dropped_tokens": unwanted.dropped}
        return Conditioning(inputs, notes)

    def count(self, text: str) -> int:
        """Tokens without the end mark, of the text as the pipeline cleans it."""
        from diffusers.pipelines.wan.pipeline_wan import prompt_clean

        return len(self._pipeline.tokenizer(prompt_clean(text), add_special_tokens=False).input_ids)

    def _encoded(self, text: str) -> EncodedText:
        import torch

        tokens = self.count(text)
        with torch.no_grad():
            embeds, _ = self._pipeline.encode_prompt(
                text, do_classifier_free_guidance=False, max_sequence_length=WINDOW
            )
        return EncodedText(embeds, tokens, max(0, tokens - USABLE))
