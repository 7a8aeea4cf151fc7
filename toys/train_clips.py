"""Clips to latents and back: the video toy's autoencoder."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toys.loop import Chance, Feed, Loss
from toys.sizes import WAN_FRAMES, WAN_SIZE
from toys.train_vae import KL, pixel_loss
from toys.world import CENTRE, MOTIONS, Item, Scene, Wish, any_wish, draw, fill

if TYPE_CHECKING:
    from torch import Tensor

    from toys.world import Pixels

SLACK = 0.12
"""Noise that the decoder learns to overlook, as a part of the latents' standard deviation, at most."""
FILTER_GAIN, LATENT_GAIN, LOG_VARIANCE = 3.0, 4.0, -8.0

CHANNELS = 16
LOOKED_AT = slice(None, None, 4)
"""The frames of a clip that its latents are made of."""

MOVER = Item(size="big", place=CENTRE)

Known = Sequence[tuple[Wish, Scene]]


def awake(vae: Any) -> Any:
    """A VAE that can begin to learn: its first latents differ from picture to picture by more than the noise laid over
    them, and every frame is by itself at first. As the library leaves it, the decoder hears noise alone and stays with
    grey for hundreds of steps; and the filters of later frames, which stills do not reach, spoil each other's clips."""
    import torch

    means = vae.config.z_dim
    with torch.no_grad():
        for name, weight in vae.named_parameters():
            if weight.dim() == 5 and weight.shape[2] == 3:
                weight.copy_(_of_one_frame(weight))
            if name.endswith("time_conv.bias"):
                weight.zero_()
        vae.quant_conv.weight[:means] *= LATENT_GAIN
        vae.quant_conv.weight[means:] *= 0.1
        vae.quant_conv.bias[means:] = LOG_VARIANCE
    return vae


def _of_one_frame(weight: Tensor) -> Tensor:
    """Filters of three frames that look at the last alone; those that halve or double frames take it as it is."""
    import torch

    alone = torch.zeros_like(weight)
    if weight.shape[-1] == 1:
        copies = len(weight) // weight.shape[1]
        alone[:, :, 2, 0, 0] = torch.eye(weight.shape[1]).repeat(copies, 1)
    else:
        alone[:, :, 2] = FILTER_GAIN * weight[:, :, 2]
    return alone


def scenes(number: int, seed: int | str, *, moving: bool | None) -> Known:
    """The same for the same seed. What moves is one big thing that crosses the middle, of which captions say neither;
    two or three things and all places and sizes are for stills. With None, whatever is there may move."""
    chance, found = random.Random(f"wan {seed} {moving}"), []
    for _ in range(number):
        wish = Wish((MOVER,), count=1, motion=_motion(chance)) if moving else any_wish(chance)
        wish = replace(wish, motion=_motion(chance)) if moving is None else wish
        full, scene = fill(wish, chance, width=WAN_SIZE[0], height=WAN_SIZE[1])
        (first, *others) = full.items
        said = replace(full, items=(replace(first, size=None, place=None), *others)) if moving else full
        found.append((said, scene))
    return found


def drawn_stills(batch: int, crop: int, device: str) -> Feed:
    """Parts of stills, of this many pixels a side, and the noise over their latents."""

    def feed(chance: Chance) -> tuple[Tensor, ...]:
        import torch

        wanted = _parts(chance, batch, 1, crop)
        noise = torch.randn((batch, CHANNELS, 1, crop // 8, crop // 8), generator=chance.noise)
        return wanted.to(device), noise.to(device)

    return feed


def still_loss(vae: Any) -> Loss:
    """Stills come back, and latents stay near zero."""

    def loss(wanted: Tensor, noise: Tensor) -> Tensor:
        posterior = vae.encode(wanted).latent_dist
        got = _decoded(vae, posterior.mean + posterior.std * noise)
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1.0 - posterior.logvar).mean()
        total: Tensor = pixel_loss(got, wanted) + KL * kl
        return total

    return loss


def drawn_clips(batch: int, frames: int, crop: int, device: str) -> Feed:
    """Parts of clips, noise for their latents, and how much of it there is."""

    def feed(chance: Chance) -> tuple[Tensor, ...]:
        import torch

        wanted = _parts(chance, batch, frames, crop)
        noise = torch.randn((batch, CHANNELS, 1 + frames // 4, crop // 8, crop // 8), generator=chance.noise)
        slack = torch.tensor(SLACK * chance.words.random())
        return wanted.to(device), noise.to(device), slack.to(device)

    return feed


def decoder_loss(vae: Any) -> Loss:
    """Clips from latents that a denoiser left slightly wrong. The encoder is done: every latent frame is the last of
    its four by itself, the others are for the decoder to find."""

    def loss(wanted: Tensor, noise: Tensor, slack: Tensor) -> Tensor:
        import torch

        with torch.no_grad():
            clean = vae.encode(wanted).latent_dist.mean
        return pixel_loss(_decoded(vae, clean + slack * clean.std() * noise), wanted)

    return loss


def latents(vae: Any, known: Known, frames: int, at_once: int) -> Tensor:
    """(scenes, 16, latent frames, height / 8, width / 8) of clips of that many frames, not normalised. The frames that
    the encoder looks at are encoded alone, which gives the same and is four times as fast."""
    import torch

    (width, height), found = WAN_SIZE, []
    with torch.no_grad():
        for start in range(0, len(known), at_once):
            some = known[start : start + at_once]
            clips = [draw(scene, width=width, height=height, frames=frames, part=LOOKED_AT) for _, scene in some]
            stills = tensor(clips).transpose(1, 2).flatten(0, 1)[:, :, None]
            encoded = vae.encode(stills.to(vae.device)).latent_dist.mean.cpu()
            found.append(encoded.unflatten(0, (len(some), -1))[:, :, :, 0].transpose(1, 2))
    return torch.cat(found)


def normalised(vae: Any, latents: Tensor, like: Tensor) -> Tensor:
    """With the mean and deviation of the others as 0 and 1 in each channel, which the VAE's configuration learns."""
    axes = (0, 2, 3, 4)
    mean, deviation = like.mean(axes), like.std(axes)
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=deviation.tolist())
    return (latents - mean.view(1, -1, 1, 1, 1)) / deviation.view(1, -1, 1, 1, 1)


def tensor(clips: Sequence[Pixels]) -> Tensor:
    """(clips, 3, frames, height, width) from -1 to 1."""
    import numpy as np
    import torch

    return torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def _decoded(vae: Any, latents: Tensor) -> Tensor:
    """As the library decodes, but that values beyond black and white are not cut off: they could not learn."""
    import torch

    vae.clear_cache()
    seen, chunks = vae.post_quant_conv(latents), []
    for number in range(latents.shape[2]):
        cache = {"feat_cache": vae._feat_map, "feat_idx": [0]}
        chunks.append(vae.decoder(seen[:, :, number : number + 1], **cache, first_chunk=number == 0))
    vae.clear_cache()
    return torch.cat(chunks, 2)


def _parts(chance: Chance, batch: int, frames: int, crop: int) -> Tensor:
    """(batch, 3, frames, crop, crop) cut out of clips somewhere."""
    (width, height), clips = WAN_SIZE, []
    left, top = (8 * chance.words.randint(0, (side - crop) // 8) for side in WAN_SIZE)
    for _ in range(batch):
        wish = replace(any_wish(chance.words), motion=_motion(chance.words))
        scene = fill(wish, chance.words, width=width, height=height)[1]
        first = chance.words.randrange(WAN_FRAMES - frames + 1)
        part = slice(first, first + frames)
        clips.append(draw(scene, width=width, height=height, frames=WAN_FRAMES, part=part))
    return tensor(clips)[:, :, :, top : top + crop, left : left + crop]


def _motion(chance: random.Random) -> str:
    return chance.choice([*MOTIONS, *MOTIONS, "still"])
