"""What engines are asked for before the first job, so that a job meets nothing new."""

from __future__ import annotations

from workers.job import SamplingParams


def practice(width: int, height: int, *, frames: int = 1, images: int = 1, steps: int = 1) -> SamplingParams:
    return SamplingParams(
        type="warm_up",
        media="image" if frames == 1 else "video",
        width=width,
        height=height,
        frames=frames,
        steps=steps,
        guidance=6.0,
        seeds=tuple(range(images)),
        solver="unipc",
        shift=None,
        quality="fast",
        prompt="a lighthouse at dusk",
        negative_prompt="blurry",
    )
