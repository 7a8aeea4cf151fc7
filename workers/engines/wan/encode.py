"""Text to umT5 embeddings: as the pipeline makes them, counted, and kept for texts that come again.

The encoder was trained on 512 tokens. A longer text is read in windows that end at punctuation, and the windows are
joined along the token axis; nothing is cut. A text of one window gives the very bits of the pipeline's own
`encode_prompt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workers.card import gpu
from workers.engines import chunks
from workers.engines.conditioning import Conditioning, text_notes
from workers.engines.reading import Chunks, Piece, Read

if TYPE_CHECKING:
    import torch

WINDOW = 512
USABLE = WINDOW - 1
"""Tokens of a text in one window; the last place belongs to the end mark."""

KEPT = 16
"""Texts whose embeddings stay on the device, 4 MB a window: most jobs share a negative prompt."""

WORD_BEGINS = "▁"
PAUSES = tuple(",.;:!?，。；：！？、")


@dataclass(frozen=True, slots=True)
class EncodedText:
    """One text: `embeds` (1, 512 * chunks, width), zeros after the true length of each window. `tokens` counts no
    marks."""

    embeds: torch.Tensor
    tokens: int
    chunks: int


class TextEncoder:
    """Of a pipeline whose models are on `device`."""

    def __init__(self, pipeline: Any, device: str) -> None:
        self._pipeline, self._device = pipeline, device
        self._parked = False
        self._remembered = lru_cache(maxsize=KEPT)(self._encoded)

    def encode(self, prompt: str, negative: str | None) -> Conditioning:
        """Both texts, the shorter one filled up with zeros; `negative` is None where no guidance reads it."""
        wanted = self._remembered(prompt)
        if negative is None:
            return Conditioning({"prompt_embeds": wanted.embeds}, text_notes(wanted, None))
        unwanted = self._remembered(negative)
        longer = max(wanted.chunks, unwanted.chunks)
        inputs = {"prompt_embeds": _filled(wanted, longer), "negative_prompt_embeds": _filled(unwanted, longer)}
        return Conditioning(inputs, text_notes(wanted, unwanted))

    def park(self) -> None:
        """Wait in host memory, and visit the card for texts that are not remembered."""
        gpu.park(self._pipeline.text_encoder)
        self._parked = True

    def forget(self) -> None:
        """Drop every text that is remembered."""
        self._remembered.cache_clear()

    def count(self, text: str) -> int:
        """Tokens without the end mark, of the text as the pipeline cleans it."""
        return len(token_ids(text, self._pipeline.tokenizer))

    def _encoded(self, text: str) -> EncodedText:
        import torch

        ids = token_ids(text, self._pipeline.tokenizer)
        encoder = self._pipeline.text_encoder
        with torch.no_grad(), gpu.visiting((encoder,), self._device) if self._parked else nullcontext():
            if len(ids) <= USABLE:
                embeds, _ = self._pipeline.encode_prompt(
                    text, do_classifier_free_guidance=False, max_sequence_length=WINDOW
                )
                return EncodedText(embeds, len(ids), 1)
            parts = windows(ids, self._pipeline.tokenizer)
            return EncodedText(torch.cat([self._window(part) for part in parts], dim=1), len(ids), len(parts))

    def _window(self, ids: Sequence[int]) -> torch.Tensor:
        """(1, 512, width), as the pipeline embeds a text of these tokens."""
        import torch

        encoder, tokenizer = self._pipeline.text_encoder, self._pipeline.tokenizer
        length = len(ids) + 1
        row = [*ids, tokenizer.eos_token_id] + [tokenizer.pad_token_id] * (WINDOW - length)
        seen = torch.arange(WINDOW, device=encoder.device)[None] < length
        hidden = encoder(torch.tensor([row], device=encoder.device), seen.long()).last_hidden_state
        embeds: torch.Tensor = hidden * seen[..., None]
        return embeds


def token_ids(text: str, tokenizer: Any) -> list[int]:
    """Of the text as the pipeline cleans it, without the end mark."""
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    ids: list[int] = tokenizer(prompt_clean(text), add_special_tokens=False).input_ids
    return ids


def windows(ids: Sequence[int], tokenizer: Any) -> list[Sequence[int]]:
    """The tokens of a text by window; each ends after punctuation, else before a word."""
    pieces = tokenizer.convert_ids_to_tokens(ids)
    return [ids[window] for window in chunks.split(pieces, USABLE, (_pause, _word))]


def reader(tokenizer: Any) -> Read:
    """How this model reads texts."""

    def read(text: str) -> Chunks:
        parts = windows(token_ids(text, tokenizer), tokenizer)
        pieces = [tokenizer.convert_ids_to_tokens(part) for part in parts]
        return [[Piece(piece.removeprefix(WORD_BEGINS)) for piece in part] for part in pieces]

    return read


def _pause(piece: str, _: str) -> bool:
    return piece.endswith(PAUSES)


def _word(_: str, following: str) -> bool:
    return following.startswith(WORD_BEGINS)


def _filled(text: EncodedText, longer: int) -> torch.Tensor:
    from torch.nn.functional import pad

    return pad(text.embeds, (0, 0, 0, (longer - text.chunks) * WINDOW))
