"""Prompts of any length and weight become what SDXL's denoiser is conditioned on.

CLIP reads 77 tokens, 75 beside the two marks. A longer text is read in chunks, split at commas, and the chunks are
joined along the token axis; nothing is cut. A text of one chunk without weights gives the very bits that the
pipeline's own `encode_prompt` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.engines import chunks
from workers.engines.conditioning import Conditioning, text_notes
from workers.engines.reading import Chunks, Piece, Read
from workers.prompting import emphasis

if TYPE_CHECKING:
    import torch

ROOM = 75
REMEMBERED_TEXTS = 64
"""Encoded texts kept; one chunk takes 0.3 MB."""
END_OF_WORD = "</w>"
RATIO = (0.5, 2.0)
"""How far the mean of weighted embeddings is moved back at most: near zero the ratio of two means says nothing."""


class Token(NamedTuple):
    id: int
    weight: float
    piece: str


@dataclass(frozen=True, slots=True)
class EncodedText:
    """One text: `embeds` (1, 77 * chunks, 2048), `pooled` (1, 1280) from the first chunk. `tokens` counts no marks."""

    embeds: torch.Tensor
    pooled: torch.Tensor
    tokens: int
    chunks: int


class TextEncoder:
    """The two text encoders of a loaded pipeline, with a memory of the texts encoded last."""

    def __init__(self, pipeline: Any) -> None:
        self._tokenizers = (pipeline.tokenizer, pipeline.tokenizer_2)
        self._encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
        self._zero_if_empty = pipeline.config.force_zeros_for_empty_prompt
        self._remembered = lru_cache(REMEMBERED_TEXTS)(self._encode)

    def count(self, text: str) -> int:
        """Tokens of a text, without marks; its weights and their brackets cost none."""
        return len(tokenize(text, self._tokenizers[0]))

    def forget(self) -> None:
        """Drop what is remembered: after the encoders' weights have changed, or where nothing may be kept of a text."""
        self._remembered.cache_clear()

    def encode(self, prompt: str, negative: str) -> Conditioning:
        """Both texts, the shorter one filled up with empty chunks. An empty negative prompt is all zeros, as the
        model was trained."""
        wanted, unwanted = self._remembered(prompt), self._remembered(negative)
        if self._zero_if_empty and not negative.strip():
            unwanted = _zeros_like(unwanted)
        longer = max(wanted.chunks, unwanted.chunks)
        inputs = {
            "prompt_embeds": self._filled(wanted, longer),
            "negative_prompt_embeds": self._filled(unwanted, longer),
            "pooled_prompt_embeds": wanted.pooled,
            "negative_pooled_prompt_embeds": unwanted.pooled,
        }
        return Conditioning(inputs, text_notes(wanted, unwanted))

    def _filled(self, text: EncodedText, longer: int) -> torch.Tensor:
        import torch

        empty = self._remembered("").embeds if text.embeds.any() else text.embeds
        return torch.cat([text.embeds] + [empty] * (longer - text.chunks), dim=1)

    def _encode(self, text: str) -> EncodedText:
        import torch

        tokens = tokenize(text, self._tokenizers[0])
        with torch.no_grad():
            encoded = [self._encode_chunk(chunk) for chunk in split(tokens)]
        embeds = torch.cat([chunk_embeds for chunk_embeds, _ in encoded], dim=1)
        return EncodedText(embeds, encoded[0][1], len(tokens), len(encoded))

    def _encode_chunk(self, chunk: Sequence[Token]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (1, 77, 2048) and the pooled ones (1, 1280), which only the second encoder has."""
        import torch

        outputs = [
            encoder(_ids(chunk, tokenizer).to(encoder.device), output_hidden_states=True)
            for tokenizer, encoder in zip(self._tokenizers, self._encoders, strict=True)
        ]
        hidden = [_weighted(output.hidden_states[-2], chunk) for output in outputs]
        return torch.cat(hidden, dim=-1).to(self._encoders[1].dtype), outputs[1][0]


def tokenize(text: str, tokenizer: Any) -> list[Token]:
    """The tokens of a text without marks, each with the weight of the fragment it comes from."""
    tokens = []
    for fragment, weight in emphasis.parse(text):
        ids = tokenizer(fragment, add_special_tokens=False).input_ids
        pieces = tokenizer.convert_ids_to_tokens(ids)
        tokens += [Token(id, weight, piece) for id, piece in zip(ids, pieces, strict=True)]
    return tokens


def split(tokens: Sequence[Token], room: int = ROOM) -> list[Sequence[Token]]:
    """Chunks that end after a comma, else after a whole word."""
    return [tokens[chunk] for chunk in chunks.split([token.piece for token in tokens], room, (_comma, _word))]


def reader(tokenizer: Any) -> Read:
    """How this model reads texts, by its first encoder's tokenizer; the second has the same vocabulary."""

    def read(text: str) -> Chunks:
        chunked = split(tokenize(text, tokenizer))
        return [[Piece(spelled(token.piece), token.weight) for token in part] for part in chunked]

    def spelled(piece: str) -> str:
        """As it was written; what is but a part of a character shows as none that could be read."""
        return str(tokenizer.convert_tokens_to_string([piece.removesuffix(END_OF_WORD)]))

    return read


def _comma(piece: str, _: str) -> bool:
    return piece.endswith(f",{END_OF_WORD}")


def _word(piece: str, _: str) -> bool:
    return piece.endswith(END_OF_WORD)


def _ids(chunk: Sequence[Token], tokenizer: Any) -> torch.Tensor:
    """(1, 77): the begin mark, the tokens, the end mark, and this tokenizer's own padding."""
    import torch

    ids = [tokenizer.bos_token_id, *(token.id for token in chunk), tokenizer.eos_token_id]
    return torch.tensor([ids + [tokenizer.pad_token_id] * (ROOM + 2 - len(ids))])


def _weighted(hidden: torch.Tensor, chunk: Sequence[Token]) -> torch.Tensor:
    """(1, 77, width) times each token's weight, moved back to its old mean; unchanged where all weights are 1."""
    import torch

    if all(token.weight == 1.0 for token in chunk):
        return hidden
    weights = [1.0, *(token.weight for token in chunk)]
    column = torch.tensor(weights + [1.0] * (ROOM + 2 - len(weights)), device=hidden.device).view(1, -1, 1)
    weighted = hidden.float() * column
    ratio = (hidden.float().mean() / weighted.mean()).nan_to_num(1.0).clamp(*RATIO)
    return (weighted * ratio).to(hidden.dtype)


def _zeros_like(text: EncodedText) -> EncodedText:
    import torch

    return EncodedText(torch.zeros_like(text.embeds), torch.zeros_like(text.pooled), 0, text.chunks)
