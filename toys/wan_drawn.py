"""What the video toy learns from on a CPU: latents are encoded once, all else is drawn and worded when it is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from toys.fillers import Fillers
from toys.loop import Feed, Loss
from toys.sizes import WAN_FRAMES
from toys.train_clips import drawn_clips, drawn_stills, latents, normalised, scenes
from toys.train_wan import Listener, Reel, flow_loss, noisy, of_some_frames, said

CLIPS, STILLS = 1000, 12_000
CROP, PART = 32, 17
"""Pixels a side and frames of the parts of clips that the VAE learns from."""
SOME_FRAMES = 4
"""Latent frames of a clip that the denoiser sees at a time, beside the first and the last, before it sees all."""

Reels = tuple[Reel, Reel]


@dataclass(frozen=True, slots=True)
class DrawnFeeds:
    """`folder` keeps the latents."""

    vae: Any
    listener: Listener
    known: Mapping[str, Fillers]
    seed: int
    folder: Path

    def stills(self, batch: int) -> Feed:
        return drawn_stills(batch, CROP, self.listener.device)

    def clips(self, batch: int) -> Feed:
        return drawn_clips(batch, PART, CROP, self.listener.device)

    def reels(self) -> Reels:
        """Of clips and of stills."""
        import torch

        moving, still = scenes(CLIPS, self.seed, moving=True), scenes(STILLS, self.seed, moving=False)
        file = self.folder / "wan_reels.pt"
        if not file.is_file():
            clips = latents(self.vae, moving, WAN_FRAMES, 8)
            torch.save({"clips": clips, "stills": latents(self.vae, still, 1, 64)}, file)
        found = torch.load(file, weights_only=True)
        clips, stills = (normalised(self.vae, found[name], found["clips"]) for name in ("clips", "stills"))
        return Reel(clips, moving[: len(clips)], self.known["video"]), Reel(
            stills, still[: len(stills)], self.known["image"]
        )

    def said(self, reels: Reels, batch: int) -> Feed:
        return said(self.listener, reels, batch)

    def denoisers(self, transformer: Any, reels: Reels) -> Iterator[tuple[str, Any, Loss]]:
        """First some frames of clips, then all."""
        loss = of_some_frames(transformer, flow_loss(transformer, self.listener))
        for name, frames in (("wan_denoiser", SOME_FRAMES), ("wan_denoiser_whole", WAN_FRAMES)):
            yield name, partial(noisy, self.listener, reels, frames), loss
