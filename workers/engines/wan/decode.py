"""Latents to pixels in host memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workers.card import host

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from workers.watch import Watch


def decode(vae: Any, latents: torch.Tensor, watch: Watch, *, tiled: bool = False) -> NDArray[np.uint8]:
    """Frames of shape (frames, height, width, 3), from latents (1, 16, (frames + 3) / 4, height / 8, width / 8).

    `tiled` needs a fraction of the memory and more time; tiles are blended, so pixels differ slightly.
    """
    import torch

    vae.use_tiling = tiled
    with torch.no_grad(), _progress(vae, latents.shape[2], watch):
        video = vae.decode(_unscaled(vae, latents), return_dict=False)[0]
    pixels = video[0].float().mul_(0.5).add_(0.5).clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    frames: NDArray[np.uint8] = host.fetched(pixels.permute(1, 2, 3, 0).contiguous()).numpy()
    return frames


def _unscaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """The transformer's normalized latents as the VAE knows them, computed in fp32."""
    import torch

    mean, scale = (
        torch.tensor(values, device=latents.device).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (latents.float() / (1.0 / scale) + mean).to(vae.dtype)


@contextmanager
def _progress(vae: Any, total: int, watch: Watch) -> Iterator[None]:
    """Move the marker with every latent frame, which the decoder takes one by one, and let it raise in between."""
    done = 0

    def moved(*_: object) -> None:
        nonlocal done
        done += 1
        watch.step(done, max(done, total))

    hook = vae.decoder.register_forward_hook(moved)
    try:
        yield
    finally:
        hook.remove()
        vae.clear_cache()
