"""Captions to clips: the video toy's autoencoder, and its denoiser together with its text encoder."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from toys.fillers import Fillers
from toys.loop import Chance, Loss
from toys.sizes import WAN_FRAMES, WAN_SIZE
from toys.train_vae import KL, pixel_loss
from toys.words import caption, describe, partly
from toys.world import MOTIONS, Scene, Wish, any_wish, draw, fill

if TYPE_CHECKING:
    from torch import Tensor

    from toys.train_words import Read
    from toys.world import Pixels

WINDOW = 512
"""Tokens that the pipeline hands over; what a text does not fill is zeros."""
SINGLE = 0.5
"""Share of clips that are made to show one thing, beside those that do anyway."""
UNCONDITIONAL = 0.12
SHIFT = 3.0
"""How much training dwells on noisy latents."""
STILLS_FOR_A_CLIP = 6
DESCRIBED = 0.25
"""Share of captions as an enhancer words them."""

Known = Sequence[tuple[Wish, Scene]]


@dataclass(frozen=True, slots=True)
class Reel:
    """Latents (clips, 16, latent frames, height / 8, width / 8), normalised, and what can be said of each."""

    latents: Tensor
    known: Known
    fillers: Fillers


def scenes(number: int, seed: int, *, moving: bool) -> Known:
    """The same for the same seed."""
    chance, (width, height) = random.Random(f"wan {seed} {moving}"), WAN_SIZE
    return [fill(_wish(chance, moving), chance, width=width, height=height) for _ in range(number)]


def clip_loss(vae: Any, batch: int, frames: int, crop: int, device: str) -> Loss:
    """A loss for `fit`: parts of clips, of this many frames and pixels a side, come back."""
    width, height = WAN_SIZE

    def loss(chance: Chance) -> Tensor:
        import torch

        known = [fill(_wish(chance.words, True), chance.words, width=width, height=height)[1] for _ in range(batch)]
        first = [chance.words.randrange(WAN_FRAMES - frames + 1) for _ in known]
        left, top = (8 * chance.words.randint(0, (side - crop) // 8) for side in WAN_SIZE)
        pixels = [_clip(scene, slice(at, at + frames)) for scene, at in zip(known, first, strict=True)]
        wanted = tensor(pixels)[:, :, :, top : top + crop, left : left + crop].to(device)
        posterior = vae.encode(wanted).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=chance.noise).to(device)
        got = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1.0 - posterior.logvar).mean()
        total: Tensor = pixel_loss(got, wanted) + KL * kl
        return total

    return loss


def latents(vae: Any, known: Known, frames: int, at_once: int) -> Tensor:
    """Encoded, not normalised; clips of the whole length or their single frames."""
    import torch

    found = []
    with torch.no_grad():
        for start in range(0, len(known), at_once):
            clips = [
                draw(scene, width=WAN_SIZE[0], height=WAN_SIZE[1], frames=frames)
                for _, scene in known[start : start + at_once]
            ]
            found.append(vae.encode(tensor(clips).to(vae.device)).latent_dist.mean.cpu())
    return torch.cat(found)


def tensor(clips: Sequence[Pixels]) -> Tensor:
    """(clips, 3, frames, height, width) from -1 to 1."""
    import numpy as np
    import torch

    return torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def reading_of(encoder: Any, tokenizer: Any, reels: tuple[Reel, Reel], batch: int, device: str) -> Read:
    """Batches for the encoder to learn words from."""

    def read(chance: Chance) -> tuple[Tensor, None, list[Wish]]:
        reel = chance.words.choice(reels)
        prompts = [prompt(reel, chance.words.choice(reel.known)[0], chance.words) for _ in range(batch)]
        return embed(encoder, tokenizer, [text for text, _ in prompts], device), None, [told for _, told in prompts]

    return read


def flow_loss(
    transformer: Any, encoder: Any, tokenizer: Any, reels: tuple[Reel, Reel], batch: int, device: str
) -> Loss:
    """A loss for `fit`: where noisy latents should move, in `batch` clips or in several times as many stills."""
    read_padding_once(transformer)
    turns = tuple(zip((batch, batch * STILLS_FOR_A_CLIP), reels, strict=True))

    def loss(chance: Chance) -> Tensor:
        import torch

        count, reel = chance.words.choice(turns)
        index = torch.randint(len(reel.latents), (count,), generator=chance.noise)
        texts = [prompt(reel, reel.known[i][0], chance.words)[0] for i in index.tolist()]
        with torch.no_grad():
            heard = embed(encoder, tokenizer, texts, device)
        clean = reel.latents[index].to(device)
        noise = torch.randn(clean.shape, generator=chance.noise).to(device)
        even = torch.rand(count, generator=chance.noise).to(device)
        sigma = SHIFT * even / (1 + (SHIFT - 1) * even)
        mixed = torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1, 1))
        told = transformer(mixed, sigma * 1000, heard, return_dict=False)[0]
        total: Tensor = (told - (noise - clean)).pow(2).mean()
        return total

    return loss


def prompt(reel: Reel, wish: Wish, chance: random.Random) -> tuple[str, Wish]:
    """What a text encoder reads, of the user, the enhancer or a negative prompt; and what of the wish it says."""
    if chance.random() < UNCONDITIONAL:
        return chance.choice((*reel.fillers.negatives, reel.fillers.around("", chance))), Wish()
    told = partly(wish, chance)
    said = caption(told, chance)
    if chance.random() < DESCRIBED:
        said = describe(told, said, chance)
    return reel.fillers.around(said, chance), told


def embed(encoder: Any, tokenizer: Any, texts: Sequence[str], device: str) -> Tensor:
    """(texts, longest + 1, width), zeros after the end of each text as in the pipeline, the last row always zeros."""
    import torch

    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=WINDOW - 1, return_tensors="pt").to(
        device
    )
    hidden = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    heard = hidden * tokens.attention_mask[..., None]
    return torch.cat([heard, torch.zeros_like(heard[:, :1])], dim=1)


def read_padding_once(transformer: Any) -> None:
    """The pipeline fills texts up to 512 tokens with zeros, all alike: attention reads one of them and counts it as
    often as it would stand there."""
    from diffusers.models.transformers.transformer_wan import WanAttnProcessor

    class Padded(WanAttnProcessor):  # type: ignore[misc]  # the library has no types
        def __call__(self, attn: Any, hidden: Tensor, text: Tensor, mask: None = None, rotary: None = None) -> Tensor:
            bias = hidden.new_zeros(text.shape[1])
            bias[-1] = math.log(WINDOW - text.shape[1] + 1)
            read: Callable[..., Tensor] = super().__call__
            return read(attn, hidden, text, bias.expand(1, 1, hidden.shape[1], -1), rotary)

    for block in transformer.blocks:
        block.attn2.set_processor(Padded())


def _clip(scene: Scene, part: slice) -> Pixels:
    return draw(scene, width=WAN_SIZE[0], height=WAN_SIZE[1], frames=WAN_FRAMES, part=part)


def _wish(chance: random.Random, moving: bool) -> Wish:
    wish = Wish(count=1) if chance.random() < SINGLE else any_wish(chance)
    return replace(wish, motion=chance.choice([*MOTIONS, *MOTIONS, "still"])) if moving else wish
