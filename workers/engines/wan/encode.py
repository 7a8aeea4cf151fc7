"""Text to umT5 embeddings: as the pipeline makes them, counted, and kept for texts that come again.

The encoder was trained on 512 tokens. A longer text is read in windows that end at punctuation, and the windows are
joined along the token axis; nothing is cut. A text of one window gives the very bits of the pipeline's own
`encode_prompt`; on a card a short one is read in a shorter window, which differs by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workers.card import gpu, host
from workers.engines import chunks
from workers.engines.conditioning import Conditioning, text_notes
from workers.engines.reading import Chunks, Piece, Read
from workers.engines.wan.graphs import WINDOW, Window

if TYPE_CHECKING:
    import torch

USABLE = WINDOW - 1
"""Tokens of a text in one window; the last place belongs to the end mark."""

KEPT = 16
"""Texts whose embeddings stay on the device, 4 MB a window: most jobs share a negative prompt."""

LENGTHS = (64, 128, 256, WINDOW)
"""Of the windows that are kept ready: what is behind a text's end mark costs time and changes nothing."""

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
        self._windows: list[Window] = []
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

    def prepare(self) -> None:
        """On a card: keep windows ready that cost the host nothing. One that is parked never stays long enough."""
        if self._windows or self._parked or not gpu.on_card(self._device):
            return
        encoder, tokenizer = self._pipeline.text_encoder, self._pipeline.tokenizer
        self._windows = [Window(encoder, tokenizer, length, recorded=True) for length in LENGTHS]

    def park(self) -> None:
        """Wait in host memory, and visit the card for texts that are not remembered."""
        host.park(self._pipeline.text_encoder)
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
        parts = [ids] if len(ids) <= USABLE else windows(ids, self._pipeline.tokenizer)
        visit = host.visiting((self._pipeline.text_encoder,), self._device) if self._parked else nullcontext()
        with torch.no_grad(), visit:
            return EncodedText(torch.cat([self._window(part) for part in parts], dim=1), len(ids), len(parts))

    def _window(self, ids: Sequence[int]) -> torch.Tensor:
        """(1, 512, width): in the full length the very bits of the pipeline."""
        ready = next((window for window in self._windows if len(ids) < window.length), None)
        return (ready or Window(self._pipeline.text_encoder, self._pipeline.tokenizer, WINDOW))(ids)


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
