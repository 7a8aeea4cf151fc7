"""Pixels to latents: where a generation begins that does not begin from noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def encode(vae: Any, frames: torch.Tensor) -> torch.Tensor:
    """Normalized latents (1, 16, (frames + 3) / 4, height / 8, width / 8) in float32 of frames (frames, 3, height,
    width) in [-1, 1]: the most likely ones, so that they are the same for every seed."""
    import torch

    with torch.no_grad():
        video = frames.permute(1, 0, 2, 3)[None].to(vae.device, vae.dtype)
        latents = vae.encode(video).latent_dist.mode().float()
    mean, scale = (
        torch.tensor(values, device=latents.device).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    normalized: torch.Tensor = (latents - mean) * (1.0 / scale)
    return normalized


class Late:
    """A scheduler of diffusers, whose timesteps are set, from one of its later steps on."""

    def __init__(self, scheduler: Any, skipped: int) -> None:
        scheduler.set_begin_index(skipped)
        self.timesteps = scheduler.timesteps[skipped:]
        self.step = scheduler.step
        self._sigma = float(scheduler.sigmas[skipped])

    def towards(self, start: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The latents at this step, on the straight way from noise to `start`."""
        return start.lerp(noise, self._sigma)
