"""How the video model's work goes from noise to a clip, measured with the weights at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from workers.card import gpu
from workers.card.weights import quiet_libraries
from workers.engines.wan.curve import Curve, save
from workers.job import Job, Preset, SamplingParams, Turbo
from workers.known import known_settings
from workers.resolve import resolve
from workers.tables import load_models, size_scale
from workers.watch import Watch

PROMPT, NEGATIVE = "a red bicycle rolls along a quiet beach at dusk", "blurry, low quality"


def calibrated(root: Path, preset: Preset) -> tuple[Path, Curve]:
    """The file below the MODEL_ROOT, and what it says."""
    from workers.engines.wan.engine import WanEngine

    if preset.media != "video":
        raise typer.BadParameter(f"{preset.type} makes no clips", param_hint="--type")
    files = load_models().wan
    quiet_libraries()
    device = gpu.pick_device(known_settings().settings.device)
    engine = WanEngine(root / files.weights, device=device, converted=root / files.converted)
    watch = Watch()
    engine.load(watch)
    curve = engine.calibrate(_asked(preset, size_scale(root, preset.kind)), watch)
    save(root / files.magnitudes, curve)
    return root / files.magnitudes, curve


def _asked(preset: Preset, scale: float) -> SamplingParams:
    """A clip as that type makes it, without turbo."""
    plain = resolve(Job("calibration", preset.type, "nobody", PROMPT), replace(preset, turbo=Turbo()), scale)
    return replace(plain, prompt=PROMPT, negative_prompt=NEGATIVE)
