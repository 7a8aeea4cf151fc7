"""The two text encoders of the SDXL toy. They learn a few hundred tokens; all others of CLIP's vocabulary share one
vector, so that words outside the world read alike."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toys.fillers import Fillers
from toys.words import caption, describe, partly
from toys.world import any_wish, fill
from workers.engines.sdxl.encode import ROOM, split, tokenize

if TYPE_CHECKING:
    from torch import Tensor

CORPUS = 4000
"""Captions from which the known tokens are collected."""


class Texts:
    """Text to both encoders' input, in numbers of the small vocabulary. 0 is every unknown token; the end mark is
    the highest, as the encoder's pooling wants it."""

    def __init__(self, tokenizers: Sequence[Any], fillers: Fillers) -> None:
        import torch

        self.tokenizers = tokenizers
        self.known = sorted(_known(tokenizers[0], fillers) | {tokenizer.pad_token_id for tokenizer in tokenizers})
        self._small = torch.zeros(len(tokenizers[0]), dtype=torch.long)
        self._small[self.known] = torch.arange(1, len(self.known) + 1)

    @property
    def size(self) -> int:
        return len(self.known) + 1

    def chunks(self, text: str) -> list[list[int]]:
        """The tokens of a text in chunks, as the engine splits them."""
        return [[token.id for token in chunk] for chunk in split(tokenize(text, self.tokenizers[0]))]

    def ids(self, chunks: Sequence[Sequence[int]], encoder: int) -> Tensor:
        """(chunks, 77) for one of the encoders."""
        import torch

        tokenizer = self.tokenizers[encoder]
        rows = [[tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id] for chunk in chunks]
        return self._small[torch.tensor([row + [tokenizer.pad_token_id] * (ROOM + 2 - len(row)) for row in rows])]

    def whole(self, table: Tensor) -> Tensor:
        """An embedding of the small vocabulary for all of CLIP's tokens."""
        return table[self._small]


def prepared(texts: Texts, prompts: Sequence[list[list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
    """What `encoded` reads of prompts of the same number of chunks: the chunks for both encoders, each one once, and
    which of them each prompt has."""
    import torch

    once = {chunk: number for number, chunk in enumerate(dict.fromkeys(map(tuple, itertools.chain(*prompts))))}
    places = torch.tensor([[once[tuple(chunk)] for chunk in chunks] for chunks in prompts])
    return texts.ids(list(once), 0), texts.ids(list(once), 1), places


def encoded(encoders: Sequence[Any], first: Tensor, second: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """(prompts, 77 * chunks, width) and pooled (prompts, width)."""
    import torch

    outputs = [encoder(ids, output_hidden_states=True) for encoder, ids in zip(encoders, (first, second), strict=True)]
    hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return hidden[places].flatten(1, 2), outputs[1][0][places[:, 0]]


def _known(tokenizer: Any, fillers: Fillers) -> set[int]:
    """Every token of the world's captions and of the deployment's own words, but for the phrases outside the world."""
    chance = random.Random(0)
    texts = [*fillers.styles, *fillers.negatives, "0 1 2 3 4 5 6 7 8 9 . , : ; ! ? - ( )"]
    for _ in range(CORPUS):
        full, _scene = fill(any_wish(chance), chance, width=64, height=64)
        texts.append(caption(partly(full, chance), chance))
        texts.append(describe(full, "", chance))
    ids = {token for text in texts for token in tokenizer(text, add_special_tokens=False).input_ids}
    return ids | {tokenizer.bos_token_id, tokenizer.eos_token_id}
