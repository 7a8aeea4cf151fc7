"""What the tests of the SDXL engine share: a small checkpoint, an engine on it, parameters to vary."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workers.engines.sdxl import SdxlEngine
from workers.job import Output, SamplingParams
from workers.tiny import sdxl as tiny
from workers.watch import Watch

PARAMS = SamplingParams(
    type="sdxl_image_fast",
    media="image",
    width=64,
    height=64,
    frames=1,
    steps=4,
    guidance=6.0,
    seeds=(7,),
    solver="unipc",
    shift=None,
    quality="fast",
    prompt="a lighthouse at dusk",
    negative_prompt="blurry",
)


def tiny_engine(folder: Path) -> SdxlEngine:
    """A loaded engine on a small checkpoint in a folder that has none yet."""
    tiny.write(folder)
    engine = SdxlEngine(folder / tiny.CHECKPOINT, device="cpu")
    engine.load(Watch())
    return engine


def generate(engine: SdxlEngine, watch: Watch | None = None, **changes: Any) -> list[Output]:
    return engine.generate(replace(PARAMS, **changes), watch or Watch())


def pixels(engine: SdxlEngine, **changes: Any) -> Any:
    """(images, height, width, 3) as whole numbers that can be subtracted."""
    return np.concatenate([output.frames for output in generate(engine, **changes)]).astype(int)


def digest(engine: SdxlEngine, **changes: Any) -> str:
    """Names the bits of its pictures."""
    return hashlib.sha256(b"".join(output.frames.tobytes() for output in generate(engine, **changes))).hexdigest()


def networks_in(folder: Path) -> dict[str, Any]:
    """Small ones with random weights, the same at every call."""
    tiny.write_config(folder)
    return tiny.models(folder, seed=0)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def asked(
    images: int,
    *,
    height: int = 16,
    width: int = 16,
    guided: bool = True,
    tokens: int = 77,
    seed: int = 1,
    time: int = 500,
) -> dict[str, Any]:
    """What the pipeline calls the denoiser with: negative prompt first, each text once per image."""
    texts = 2 if guided else 1
    return {
        "sample": random(texts * images, 4, height, width, seed=seed),
        "timestep": torch.tensor(time),
        "encoder_hidden_states": random(texts, tokens, 80, seed=seed).repeat_interleave(images, 0),
        "added_cond_kwargs": {
            "text_embeds": random(texts, 48, seed=seed).repeat_interleave(images, 0),
            "time_ids": torch.tensor([[128.0, 128.0, 0.0, 0.0, 128.0, 128.0]] * texts * images),
        },
    }
