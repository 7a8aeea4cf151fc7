"""Pictures to latents and back: the SDXL toy's autoencoder."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from toys.loop import Chance, Feed, Loss, half
from toys.sizes import SDXL_SIDE as SIDE
from toys.world import any_wish, draw, fill

if TYPE_CHECKING:
    from torch import Tensor

    from toys.world import Pixels

KL = 3e-5
CHANNELS = 4
ODD_COLOURS = 0.15
"""Share of pictures in colours without a name: latents between two names then decode to something between."""


def pictures(chance: random.Random, batch: int, size: tuple[int, int]) -> list[Pixels]:
    width, height = size
    scenes = [fill(any_wish(chance), chance, width=width, height=height)[1] for _ in range(batch)]
    return [draw(scene, width=width, height=height)[0] for scene in scenes]


def drawn_parts(batch: int, crop: int, device: str) -> Feed:
    """Pictures, or parts of this many pixels a side, and the noise over their latents."""

    def feed(chance: Chance) -> tuple[Tensor, ...]:
        left, top = (8 * chance.words.randint(0, (SIDE - crop) // 8) for _ in range(2))
        whole = tensor(pictures(chance.words, batch, (SIDE, SIDE)))
        return coloured(whole[:, :, top : top + crop, left : left + crop].to(device), chance.noise)

    return feed


def coloured(wanted: Tensor, generator: Any) -> tuple[Tensor, Tensor]:
    """Some of the pictures in odd colours, and noise for the latents of all; drawn where the generator is."""
    import torch

    batch, _, height, width = wanted.shape
    given = {"generator": generator, "device": generator.device}
    odd = (torch.rand(batch, **given) < ODD_COLOURS).to(wanted.device)
    scale = torch.rand((batch, 3, 1, 1), **given).to(wanted.device) * 2 - 1
    noise = torch.randn((batch, CHANNELS, height // 8, width // 8), **given)
    return torch.where(odd[:, None, None, None], wanted * scale, wanted), noise.to(wanted.device)


def vae_loss(vae: Any, device: str) -> Loss:
    """The picture comes back, and latents stay near zero."""

    def loss(wanted: Tensor, noise: Tensor) -> Tensor:
        with half(device):
            posterior = vae.encode(wanted).latent_dist
            got = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1.0 - posterior.logvar).float().mean()
        total: Tensor = pixel_loss(got.float(), wanted) + KL * kl
        return total

    return loss


def pixel_loss(got: Tensor, wanted: Tensor) -> Tensor:
    """Sharp edges by the first term, no far outliers by the second."""
    difference = got - wanted
    return difference.abs().mean() + 2 * difference.pow(2).mean()


def tensor(frames: list[Pixels]) -> Tensor:
    """(pictures, 3, height, width) from -1 to 1."""
    import numpy as np
    import torch

    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
