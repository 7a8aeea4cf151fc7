"""First and last frames, and pictures to be shown: VACE, which waits in host memory and visits the card for its jobs.

Its transformer is the video model's own with further layers that read the given frames. Text encoder and VAE are the
video model's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.card import gpu, host
from workers.engines import fit
from workers.engines.wan.begin import encode
from workers.engines.wan.pipeline import load_model
from workers.references.guide import FIRST, LAST, REFERENCE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from workers.engines.conditioning import Conditioning
    from workers.engines.wan.denoise import Velocity
    from workers.job import SamplingParams
    from workers.watch import Watch

TRANSFORMER = "transformer"
PIXELS = 64
"""Of a mask, to one latent's place: 8 * 8."""


@dataclass(frozen=True, slots=True)
class Control:
    """What VACE reads beside the text. `latents` (1, 96, T, height / 8, width / 8), of which the first `shown` frames
    are pictures to be shown and no part of the video."""

    transformer: Any
    latents: Tensor
    shown: int
    weight: float

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.transformer.dtype
        return dtype

    def __call__(self, latents: Tensor, time: Tensor, text: Tensor, return_dict: bool) -> Any:
        scale = self.latents.new_full((len(self.transformer.config.vace_layers),), self.weight)
        return self.transformer(
            latents,
            time,
            text,
            control_hidden_states=self.latents,
            control_hidden_states_scale=scale,
            return_dict=return_dict,
        )

    def velocity(self, text: Conditioning, guidance: float) -> Velocity:
        from workers.engines.wan.denoise import one_by_one

        wanted, unwanted = (text.inputs.get(name) for name in ("prompt_embeds", "negative_prompt_embeds"))
        assert wanted is not None
        return one_by_one(self, wanted.to(self.dtype), None if unwanted is None else unwanted.to(self.dtype), guidance)


class Vace:
    def __init__(self, folder: Path, device: str, watch: Watch) -> None:
        """`folder` has the diffusers layout; of it only the transformer is read. Raises `Misconfigured`."""
        import diffusers

        self._device = device
        self.transformer = load_model(
            folder / TRANSFORMER,
            diffusers.WanVACETransformer3DModel,
            "cpu",
            gpu.dtype_for(device, "bfloat16"),
            watch,
        )

    @contextmanager
    def visiting(self) -> Iterator[None]:
        with host.visiting((self.transformer,), self._device):
            yield

    def control(self, params: SamplingParams, vae: Any) -> Control:
        """Frames that are given stay, all others are grey and free to be filled."""
        import torch

        assert params.guide is not None
        video, free = _video(params)
        latents = torch.cat([encode(vae, video * (1 - free)), encode(vae, video * free)], dim=1)
        open_ = torch.nn.functional.interpolate(
            free.permute(1, 0, 2, 3)[None], size=(latents.shape[2], 1, 1), mode="nearest-exact"
        ).to(latents.device)
        control = torch.cat([latents, open_.expand(-1, PIXELS, -1, *latents.shape[3:])], dim=1)
        shown = [_shown(params, vae)] if REFERENCE in params.guide.pictures else []
        whole = torch.cat([*shown, control], dim=2).to(self.transformer.dtype)
        return Control(self.transformer, whole, len(shown), params.guide.weight)


def present(folder: Path | None) -> bool:
    return folder is not None and (folder / TRANSFORMER / "config.json").is_file()


def _video(params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Frames (frames, 3, height, width) in [-1, 1], and which are free (frames, 1, 1, 1): 1 or 0."""
    import torch

    assert params.guide is not None
    video, free = torch.zeros(params.frames, 3, params.height, params.width), torch.ones(params.frames, 1, 1, 1)
    for role, index in ((FIRST, 0), (LAST, -1)):
        if picture := params.guide.pictures.get(role):
            video[index] = fit.tensor(fit.filling(picture, (params.width, params.height)))[0]
            free[index] = 0
    return video, free


def _shown(params: SamplingParams, vae: Any) -> Tensor:
    """The picture to be shown, whole and in front of white, as a frame before the first: nothing of it is free."""
    import torch

    assert params.guide is not None
    picture = fit.inside(params.guide.pictures[REFERENCE], (params.width, params.height))
    latents = encode(vae, fit.tensor(picture))
    nothing = torch.zeros_like(latents)
    return torch.cat([latents, nothing, nothing[:, :1].expand(-1, PIXELS, -1, -1, -1)], dim=1)
