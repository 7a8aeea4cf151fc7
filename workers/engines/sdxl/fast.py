"""Lets a pipeline compute over the fast layers. Its modules keep their weights, names and configurations."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from workers.card import attention, kernels
from workers.engines.sdxl import ops
from workers.engines.sdxl.decoder import Decoder
from workers.engines.sdxl.denoiser import Denoiser
from workers.engines.sdxl.graphs import Graphed


def hasten(pipeline: Any) -> None:
    """Replace what denoiser and decoder do when they are called; see `blocks.py`."""
    import torch

    unet = pipeline.unet
    with torch.no_grad():
        denoiser = Denoiser(unet)
        pipeline.vae.decoder.forward = Decoder(pipeline.vae.decoder).forward
    unet.forward = (Graphed(denoiser) if unet.device.type == "cuda" else denoiser).forward


def recording(pipeline: Any) -> AbstractContextManager[None]:
    """Inside, sizes that come for the first time become graphs, where the pipeline was hastened on a card."""
    owner = getattr(pipeline.unet.forward, "__self__", None)
    return owner.recording() if isinstance(owner, Graphed) else nullcontext()


def choose_attention(pipeline: Any, images: int) -> None:
    """By the one that takes most of the card's time: in the denoiser's second level, for a batch of so many images."""
    unet = pipeline.unet
    looked = unet.down_blocks[1].attentions[0].transformer_blocks[0].attn1
    shape = (2 * images, looked.heads, (unet.config.sample_size // 2) ** 2, looked.inner_dim // looked.heads)
    attention.choose(attention.on_this_card(shape, "float16", str(unet.device)))


def refresh(pipeline: Any) -> None:
    """After weights were changed in place: compute anew what a hastened denoiser keeps of them."""
    owner = getattr(pipeline.unet.forward, "__self__", None)
    if isinstance(owner, Denoiser | Graphed):
        owner.refresh()


def possible(device: str, cache: Path | None = None) -> bool:
    """Whether the kernels can be compiled and run here; what is compiled is kept in `cache`."""
    import torch

    def trial() -> None:
        image = torch.ones((1, 32, 8, 8), device=device).to(memory_format=torch.channels_last)
        ops.group_norm([image], torch.nn.GroupNorm(32, 32, device=device))

    kernels.keep_in(cache)
    return kernels.usable(trial)
