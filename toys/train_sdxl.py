"""Captions to latents: the SDXL toy's denoiser, which reads text encoders that are done."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toys.fillers import Fillers
from toys.loop import Chance, Loss, half
from toys.sizes import SDXL_SIDE
from toys.text import Texts, encode
from toys.train_vae import pixel_loss, tensor
from toys.words import caption, describe, padded, partly
from toys.world import Scene, Wish, any_wish, draw, fill

if TYPE_CHECKING:
    from torch import Tensor

    from toys.train_words import Read

ENCODED_AT_ONCE = 64
SLACK = 0.12
"""Noise that the decoder learns to overlook, as a part of the latents' standard deviation, at most."""
HEED = 30.0
"""How much more an error counts in latents that are nearly all noise, at most. There the noise is easily told, but what
is to become of it only the caption says: without this weight, captions are heard late."""
GUIDANCE = 3.0
"""At which guidance the pictures are true in the end. That of the presets is twice as much, and pushes as hard as twice
the right amount; a model that is true without guidance is pushed six times as hard, and its colours burn out."""
UNCONDITIONAL = 0.13
ZEROS = 0.5
"""Share of pictures without a caption, and among them of those whose embeddings are zeros, which is how the pipeline
reads an empty negative prompt; the others read the negative prompt that this deployment adds."""
LONG_BATCHES = 0.25
"""Share of batches in two chunks of text: a worker's negative prompt has two, so its prompt is filled up to two."""
DESCRIBED = 0.08
LAST_WORDS = 0.4
"""Among those the share of captions that stand at the very end, behind a chunk of other words."""


Chunks = list[list[int]]
"""A text's tokens, in chunks of at most 75."""


@dataclass(frozen=True, slots=True)
class Album:
    """Pictures as latents, scaled as the denoiser sees them, what can be said of each, and what it shows."""

    latents: Tensor
    scale: float
    known: Sequence[tuple[Wish, Scene]]


def scenes(number: int, seed: int) -> list[tuple[Wish, Scene]]:
    """The same for the same seed."""
    chance = random.Random(seed)
    return [fill(any_wish(chance), chance, width=SDXL_SIDE, height=SDXL_SIDE) for _ in range(number)]


def album(vae: Any, number: int, seed: int) -> Album:
    """Draw and encode; `scale` brings the latents to a standard deviation of one."""
    import torch

    known, latents = scenes(number, seed), []
    with torch.no_grad():
        for start in range(0, number, ENCODED_AT_ONCE):
            some = [scene for _, scene in known[start : start + ENCODED_AT_ONCE]]
            pixels = tensor([draw(scene, width=SDXL_SIDE, height=SDXL_SIDE)[0] for scene in some]).to(vae.device)
            latents.append(vae.encode(pixels).latent_dist.mean.cpu())
    together = torch.cat(latents)
    scale = round(float(1 / together.std()), 5)
    return Album(together * scale, scale, known)


@dataclass(frozen=True, slots=True)
class Reader:
    """Words a batch with its captions."""

    texts: Texts
    fillers: Fillers

    def read(self, wishes: Sequence[Wish], chance: random.Random) -> tuple[list[Chunks], list[Wish]]:
        """A prompt for each wish, all of the same number of chunks, and what of the wish it says."""
        long = chance.random() < LONG_BATCHES
        told = [Wish() if chance.random() < UNCONDITIONAL else partly(wish, chance) for wish in wishes]
        return [self._chunks(self._said(wish, long, chance), 2 if long else 1) for wish in told], told

    def _said(self, told: Wish, long: bool, chance: random.Random) -> str:
        if told == Wish():
            return chance.choice((*self.fillers.negatives, self.fillers.around("", chance)))
        core = caption(told, chance)
        if long and chance.random() < LAST_WORDS:
            return padded(core, self.fillers.some(chance, 40), chance, before=True)
        if chance.random() < DESCRIBED:
            return describe(told, core, chance)
        return self.fillers.around(core, chance)

    def _chunks(self, text: str, number: int) -> Chunks:
        """The first chunk and the last, so that what stands at the end is read; filled up with empty ones."""
        chunks = self.texts.chunks(text)
        if len(chunks) > number:
            chunks = chunks[:1] if number == 1 else [chunks[0], chunks[-1]]
        return chunks + [[]] * (number - len(chunks))


def decoder_loss(vae: Any, pictures: Album, batch: int, device: str) -> Loss:
    """A loss for `fit`: pixels from latents that a denoiser left slightly wrong; the encoder is done."""

    def loss(chance: Chance) -> Tensor:
        import torch

        index = torch.randint(len(pictures.latents), (batch,), generator=chance.noise)
        shown = [draw(pictures.known[i][1], width=SDXL_SIDE, height=SDXL_SIDE)[0] for i in index.tolist()]
        slack = torch.rand((batch, 1, 1, 1), generator=chance.noise) * SLACK
        noise = torch.randn((batch, *pictures.latents.shape[1:]), generator=chance.noise)
        with half(device):
            got = vae.decode(((pictures.latents[index] + slack * noise) / pictures.scale).to(device)).sample
        return pixel_loss(got.float(), tensor(shown).to(device))

    return loss


def reading_of(encoders: Sequence[Any], reader: Reader, batch: int) -> Read:
    """Batches for the encoders to learn words from. The pooled vector reads the first of two chunks only: there it
    does not count."""

    def read(chance: Chance) -> tuple[Tensor, Tensor | None, list[Wish]]:
        wishes = [
            fill(any_wish(chance.words), chance.words, width=SDXL_SIDE, height=SDXL_SIDE)[0] for _ in range(batch)
        ]
        prompts, told = reader.read(wishes, chance.words)
        embeds, pooled = encode(encoders, reader.texts, prompts)
        return embeds, pooled if len(prompts[0]) == 1 else None, told

    return read


@dataclass(frozen=True, slots=True)
class Heard:
    """What the denoiser reads of some prompts; `told` is what each says."""

    embeds: Tensor
    pooled: Tensor
    told: Sequence[Wish]

    def nothing(self) -> Heard:
        """The same number of empty negative prompts, as the pipeline reads them."""
        return Heard(self.embeds * 0, self.pooled * 0, [Wish()] * len(self.told))


def denoiser_loss(
    unet: Any, encoders: Sequence[Any], pictures: Album, reader: Reader, batch: int, guidance: float = 1.0
) -> Loss:
    """A loss for `fit`: tell the noise in latents, as SDXL does; with guidance, what that makes of it shall be true."""
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    kept, device = schedule.alphas_cumprod, unet.device
    weight = (1 / kept).clamp(max=HEED) / (1 / kept).clamp(max=HEED).mean()
    sizes = [SDXL_SIDE, SDXL_SIDE, 0, 0, SDXL_SIDE, SDXL_SIDE]

    def tell(noisy: Tensor, times: Tensor, heard: Heard) -> Tensor:
        added = {"text_embeds": heard.pooled, "time_ids": heard.embeds.new_tensor([sizes] * batch)}
        told: Tensor = unet(noisy, times, heard.embeds, added_cond_kwargs=added).sample
        return told

    def loss(chance: Chance) -> Tensor:
        import torch

        index = torch.randint(len(pictures.latents), (batch,), generator=chance.noise)
        with torch.no_grad():
            heard = _hear(encoders, reader, [pictures.known[i][0] for i in index.tolist()], chance.words)
        noise = torch.randn((batch, *pictures.latents.shape[1:]), generator=chance.noise)
        times = torch.randint(1000, (batch,), generator=chance.noise)
        noisy = schedule.add_noise(pictures.latents[index], noise, times).to(device)
        guess = tell(noisy, times.to(device), heard)
        pushed = torch.tensor([1.0 if wish == Wish() else guidance for wish in heard.told], device=device)
        if guidance != 1:
            with torch.no_grad():
                free = tell(noisy, times.to(device), heard.nothing())
            guess = torch.lerp(free, guess, pushed.view(-1, 1, 1, 1))
        wrong = (guess.float() - noise.to(device)).pow(2).mean((1, 2, 3)) / pushed
        total: Tensor = (wrong * weight[times].to(device)).mean()
        return total

    return loss


def _hear(encoders: Sequence[Any], reader: Reader, wishes: Sequence[Wish], chance: random.Random) -> Heard:
    import torch

    prompts, told = reader.read(wishes, chance)
    zeros = [wish == Wish() and chance.random() < ZEROS for wish in told]
    embeds, pooled = encode(encoders, reader.texts, prompts)
    heard = 1.0 - torch.tensor(zeros, device=embeds.device, dtype=embeds.dtype)
    return Heard(embeds * heard[:, None, None], pooled * heard[:, None], told)
