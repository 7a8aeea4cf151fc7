"""What the SDXL toy learns from on a CPU: each batch is drawn and worded when it is needed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toys.loop import Chance, Feed
from toys.sizes import SDXL_SIDE as SIDE
from toys.text import encoded, prepared
from toys.train_sdxl import ZEROS, Reader, in_noise, slackened
from toys.train_vae import coloured, pictures, tensor
from toys.train_words import fact_table
from toys.world import Scene, Wish, any_wish, draw, fill

if TYPE_CHECKING:
    from torch import Tensor

ALBUM = 20_000
ENCODED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Album:
    """Pictures as latents, scaled as the denoiser sees them, what can be said of each, and what it shows."""

    latents: Tensor
    scale: float
    known: Sequence[tuple[Wish, Scene]]


@dataclass(frozen=True, slots=True)
class DrawnFeeds:
    """`folder` keeps the album."""

    networks: Mapping[str, Any]
    reader: Reader
    device: str
    seed: int
    folder: Path

    def parts(self, crop: int, batch: int) -> Feed:
        def feed(chance: Chance) -> tuple[Tensor, ...]:
            left, top = (8 * chance.words.randint(0, (SIDE - crop) // 8) for _ in range(2))
            whole = tensor(pictures(chance.words, batch, (SIDE, SIDE)))
            return coloured(whole[:, :, top : top + crop, left : left + crop].to(self.device), chance.noise)

        return feed

    def album(self) -> Album:
        """Drawn once: the file keeps the latents, and the seed says what they show."""
        import torch

        file, vae = self.folder / "sdxl_album.pt", self.networks["vae"]
        if not file.is_file():
            pictures = album(vae, ALBUM, self.seed)
            torch.save({"latents": pictures.latents.cpu(), "scale": pictures.scale}, file)
        known = torch.load(file, weights_only=True)
        return Album(known["latents"], known["scale"], scenes(len(known["latents"]), self.seed))

    def slightly_wrong(self, pictures: Album, batch: int) -> Feed:
        def feed(chance: Chance) -> tuple[Tensor, ...]:
            import torch

            index = torch.randint(len(pictures.latents), (batch,), generator=chance.noise)
            shown = [draw(pictures.known[i][1], width=SIDE, height=SIDE)[0] for i in index.tolist()]
            wrong = slackened(pictures.latents[index], chance.noise) / pictures.scale
            return wrong.to(self.device), tensor(shown).to(self.device)

        return feed

    def said(self, batch: int) -> Feed:
        def feed(chance: Chance) -> tuple[Tensor, ...]:
            wishes = [fill(any_wish(chance.words), chance.words, width=SIDE, height=SIDE)[0] for _ in range(batch)]
            prompts, told = self.reader.read(wishes, chance.words)
            return *self._tokens(prompts), fact_table(told).to(self.device)

        return feed

    def noisy(self, pictures: Album, guidance: float, batch: int) -> Feed:
        def feed(chance: Chance) -> tuple[Tensor, ...]:
            import torch

            index = torch.randint(len(pictures.latents), (batch,), generator=chance.noise)
            with torch.no_grad():
                heard = self._hear([pictures.known[i][0] for i in index.tolist()], chance.words, guidance)
            return *(part.to(self.device) for part in in_noise(pictures.latents[index], chance.noise)), *heard

        return feed

    def _tokens(self, prompts: Sequence[list[list[int]]]) -> list[Tensor]:
        return [part.to(self.device) for part in prepared(self.reader.texts, prompts)]

    def _hear(self, wishes: Sequence[Wish], chance: random.Random, guidance: float) -> tuple[Tensor, Tensor, Tensor]:
        """What the denoiser reads of prompts for these wishes, tokens and pooled, and the guidance of each."""
        import torch

        prompts, told = self.reader.read(wishes, chance)
        zeros = [wish == Wish() and chance.random() < ZEROS for wish in told]
        encoders = [self.networks["text_encoder"], self.networks["text_encoder_2"]]
        embeds, pooled = encoded(encoders, *self._tokens(prompts))
        heard = 1.0 - torch.tensor(zeros, device=embeds.device, dtype=embeds.dtype)
        pushed = torch.tensor([1.0 if wish == Wish() else guidance for wish in told], device=embeds.device)
        return embeds * heard[:, None, None], pooled * heard[:, None], pushed


def scenes(number: int, seed: int) -> list[tuple[Wish, Scene]]:
    """The same for the same seed."""
    chance = random.Random(seed)
    return [fill(any_wish(chance), chance, width=SIDE, height=SIDE) for _ in range(number)]


def album(vae: Any, number: int, seed: int) -> Album:
    """Draw and encode; `scale` brings the latents to a standard deviation of one."""
    import torch

    known, latents = scenes(number, seed), []
    with torch.no_grad():
        for start in range(0, number, ENCODED_AT_ONCE):
            some = [scene for _, scene in known[start : start + ENCODED_AT_ONCE]]
            pixels = tensor([draw(scene, width=SIDE, height=SIDE)[0] for scene in some]).to(vae.device)
            latents.append(vae.encode(pixels).latent_dist.mean.cpu())
    together = torch.cat(latents)
    scale = round(float(1 / together.std()), 5)
    return Album(together * scale, scale, known)
