"""Pictures to latents and back: the SDXL toy's autoencoder."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from toys.loop import Chance, Loss, half
from toys.sizes import SDXL_SIDE as SIDE
from toys.world import any_wish, draw, fill

if TYPE_CHECKING:
    from torch import Tensor

    from toys.world import Pixels

KL = 3e-5
ODD_COLOURS = 0.15
"""Share of pictures in colours without a name: latents between two names then decode to something between."""


def pictures(chance: random.Random, batch: int, size: tuple[int, int]) -> list[Pixels]:
    width, height = size
    scenes = [fill(any_wish(chance), chance, width=width, height=height)[1] for _ in range(batch)]
    return [draw(scene, width=width, height=height)[0] for scene in scenes]


def vae_loss(vae: Any, batch: int, crop: int, device: str) -> Loss:
    """A loss for `fit`: the picture, or a part of this many pixels, comes back, and latents stay near zero."""

    def loss(chance: Chance) -> Tensor:
        import torch

        left, top = (8 * chance.words.randint(0, (SIDE - crop) // 8) for _ in range(2))
        whole = tensor(pictures(chance.words, batch, (SIDE, SIDE)))
        wanted = whole[:, :, top : top + crop, left : left + crop].to(device)
        odd = torch.rand(batch, generator=chance.noise) < ODD_COLOURS
        wanted = torch.where(odd.to(device)[:, None, None, None], _recoloured(wanted, chance.noise), wanted)
        with half(device):
            posterior = vae.encode(wanted).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=chance.noise).to(device)
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


def _recoloured(wanted: Tensor, generator: Any) -> Tensor:
    """The same shapes with channels scaled, so that their colours lie elsewhere."""
    import torch

    scale = torch.rand((len(wanted), 3, 1, 1), generator=generator).to(wanted.device) * 2 - 1
    return wanted * scale
