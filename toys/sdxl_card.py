"""What the SDXL toy learns from on a card: pictures and words as `sdxl_drawn` has them, from a stock."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from toys import stock
from toys.loop import Chance, Feed
from toys.raster import table
from toys.sizes import SDXL_SIDE as SIDE
from toys.stock import Pictures, Prompts
from toys.text import encoded
from toys.train_sdxl import LONG_BATCHES, ZEROS, Reader, in_noise, slackened
from toys.train_vae import coloured
from toys.train_words import fact_table
from toys.world import Wish, any_wish, fill

if TYPE_CHECKING:
    from torch import Tensor

PARTS = 32
WORDINGS: Mapping[bool, int] = {False: 3, True: 1}
"""How often each scene is worded, in one chunk of text and in two."""


ZEROED = 2
"""A prompt that says nothing is marked by 1, one whose embeddings are zeros by this."""


@dataclass(frozen=True, slots=True)
class Album:
    """The latents of all pictures, scaled as the denoiser sees them."""

    latents: Tensor
    scale: float


class CardFeeds:
    """Latents are there when the autoencoder has been asked for them, what encoders make of prompts likewise."""

    def __init__(self, networks: Mapping[str, Any], reader: Reader, device: str, seed: int) -> None:
        self._vae, self._encoders = networks["vae"], [networks["text_encoder"], networks["text_encoder_2"]]
        (rows,), *prompts = stock.made(partial(_part, reader, stock.PART, seed), PARTS, device)
        self._pictures = Pictures(rows, (SIDE, SIDE))
        self._said = {long: Prompts(scenes, fed) for long, (scenes, *fed) in zip(WORDINGS, prompts, strict=True)}

    def parts(self, crop: int, batch: int) -> Feed:
        def feed(chance: Chance) -> tuple[Tensor, ...]:
            left, top = (8 * chance.words.randint(0, (SIDE - crop) // 8) for _ in range(2))
            whole = self._pictures.still(self._pictures.some(batch, chance))
            return coloured(whole[:, :, top : top + crop, left : left + crop], chance.noise)

        return feed

    def album(self) -> Album:
        found = stock.all_through(self._latents, self._pictures.rows)[0].float()
        scale = round(float(1 / found.std()), 5)
        return Album(found * scale, scale)

    def slightly_wrong(self, pictures: Album, batch: int) -> Feed:
        def feed(chance: Chance) -> tuple[Tensor, ...]:
            index = self._pictures.some(batch, chance)
            return slackened(pictures.latents[index], chance.noise) / pictures.scale, self._pictures.still(index)

        return feed

    def said(self, batch: int) -> Feed:
        import torch

        def feed(chance: Chance) -> tuple[Tensor, ...]:
            _, (first, second, facts, _) = self._said[_long(chance)].some(batch, chance)
            places = torch.arange(first.shape[0] * first.shape[1], device=first.device).view(first.shape[:2])
            return first.flatten(0, 1).long(), second.flatten(0, 1).long(), places, facts.long()

        return feed

    def noisy(self, pictures: Album, guidance: float, batch: int) -> Feed:
        import torch

        heard = {long: self._hear(prompts) for long, prompts in self._said.items()}

        def feed(chance: Chance) -> tuple[Tensor, ...]:
            index, (embeds, pooled, silent) = heard[_long(chance)].some(batch, chance)
            pushed = torch.where(silent > 0, 1.0, guidance)
            return *in_noise(pictures.latents[index], chance.noise), embeds.float(), pooled.float(), pushed

        return feed

    def _latents(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (self._vae.encode(Pictures(rows, (SIDE, SIDE)).still(slice(None))).latent_dist.mean,)

    def _hear(self, prompts: Prompts) -> Prompts:
        """With what the encoders make of the prompts, or zeros, in the place of their tokens."""
        first, second, _, silent = prompts.fed
        return Prompts(prompts.scenes, [*stock.all_through(self._read, first, second, silent), silent])

    def _read(self, first: Tensor, second: Tensor, silent: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        places = torch.arange(first.shape[0] * first.shape[1], device=first.device).view(first.shape[:2])
        embeds, pooled = encoded(self._encoders, first.flatten(0, 1).long(), second.flatten(0, 1).long(), places)
        heard = (silent < ZEROED).to(embeds.dtype)
        return embeds * heard[:, None, None], pooled * heard[:, None]


def _long(chance: Chance) -> bool:
    return chance.words.random() < LONG_BATCHES


def _part(reader: Reader, number: int, seed: int, part: int) -> list[Sequence[Tensor]]:
    """A part of the stock: scenes, then for prompts in one chunk and in two the numbers of their scenes, tokens for
    both encoders, facts, and whether they say nothing."""
    import torch

    chance = random.Random(f"sdxl {seed} {part}")
    known = [fill(any_wish(chance), chance, width=SIDE, height=SIDE) for _ in range(number)]
    found: list[Sequence[Tensor]] = [[table([scene for _, scene in known])]]
    for long, times in WORDINGS.items():
        prompts, told = reader.worded([wish for wish, _ in known] * times, chance, long=long)
        ids = [reader.texts.ids([chunk for chunks in prompts for chunk in chunks], encoder) for encoder in (0, 1)]
        silent = [0 if wish != Wish() else 1 + (chance.random() < ZEROS) for wish in told]
        scenes = torch.arange(number).repeat(times) + part * number
        tokens = [rows.view(len(prompts), -1, rows.shape[-1]).short() for rows in ids]
        found.append([scenes, *tokens, fact_table(told).to(torch.int8), torch.tensor(silent, dtype=torch.int8)])
    return found
