"""Captions to latents: the SDXL toy's denoiser, which reads text encoders that are done."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from toys.fillers import Fillers
from toys.loop import Loss, half
from toys.sizes import SDXL_SIDE
from toys.text import Texts, encoded
from toys.train_vae import pixel_loss
from toys.words import caption, describe, padded, partly
from toys.world import Wish

if TYPE_CHECKING:
    from torch import Tensor

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
class Reader:
    """Words a batch with its captions."""

    texts: Texts
    fillers: Fillers

    def read(self, wishes: Sequence[Wish], chance: random.Random) -> tuple[list[Chunks], list[Wish]]:
        """A prompt for each wish, all of the same number of chunks, and what of the wish it says."""
        return self.worded(wishes, chance, long=chance.random() < LONG_BATCHES)

    def worded(self, wishes: Sequence[Wish], chance: random.Random, *, long: bool) -> tuple[list[Chunks], list[Wish]]:
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


def slackened(latents: Tensor, generator: Any) -> Tensor:
    import torch

    given = {"generator": generator, "device": generator.device}
    slack = torch.rand((len(latents), 1, 1, 1), **given) * SLACK
    return latents + slack * torch.randn(latents.shape, **given)


def decoder_loss(vae: Any, device: str) -> Loss:
    """Pixels from latents that are slightly wrong; the encoder is done."""

    def loss(latents: Tensor, wanted: Tensor) -> Tensor:
        with half(device):
            got = vae.decode(latents).sample
        return pixel_loss(got.float(), wanted)

    return loss


def hearing(encoders: Sequence[Any]) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """What `words_loss` looks at. The pooled vector reads the first of two chunks only: there it does not count."""

    def hear(*prompts: Tensor) -> tuple[Tensor, Tensor | None]:
        embeds, pooled = encoded(encoders, *prompts)
        return embeds, pooled if prompts[-1].shape[1] == 1 else None

    return hear


def in_noise(latents: Tensor, generator: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, when it is laid over the latents, and what comes of it, as SDXL does it."""
    import torch

    given = {"generator": generator, "device": generator.device}
    noise = torch.randn(latents.shape, **given)
    times = torch.randint(1000, (len(latents),), **given)
    return noise, times, _schedule().add_noise(latents, noise, times)


def denoiser_loss(unet: Any, guidance: float = 1.0) -> Loss:
    """Tell the noise in latents; with guidance, what that makes of it shall be true. `pushed` is the guidance of each
    picture, 1 where nothing is said."""
    import torch

    sizes = [SDXL_SIDE, SDXL_SIDE, 0, 0, SDXL_SIDE, SDXL_SIDE]
    places = torch.tensor([sizes], device=unet.device, dtype=torch.float32)
    weight = (1 / _schedule().alphas_cumprod).clamp(max=HEED)
    weight = (weight / weight.mean()).to(unet.device)

    def tell(noisy: Tensor, times: Tensor, embeds: Tensor, pooled: Tensor) -> Tensor:
        added = {"text_embeds": pooled, "time_ids": places.expand(len(noisy), -1)}
        told: Tensor = unet(noisy, times, embeds, added_cond_kwargs=added).sample
        return told

    def loss(noise: Tensor, times: Tensor, noisy: Tensor, embeds: Tensor, pooled: Tensor, pushed: Tensor) -> Tensor:
        guess = tell(noisy, times, embeds, pooled)
        if guidance != 1:
            with torch.no_grad():
                free = tell(noisy, times, embeds * 0, pooled * 0)
            guess = torch.lerp(free, guess, pushed.view(-1, 1, 1, 1))
        wrong = (guess.float() - noise).pow(2).mean((1, 2, 3)) / pushed
        total: Tensor = (wrong * weight[times]).mean()
        return total

    return loss


@cache
def _schedule() -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
