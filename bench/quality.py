"""Whether a setting that saves time still makes the same pictures: `python -m bench.quality [CANDIDATE …]`.

Every candidate of quality.toml, or those named, against the plain run on the toy weights, whose pictures and clips a
detector can read; or on other weights, at their size. Exit code 1 where a candidate fails a gate, or a planted fault
passes them all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.frame import psnr
from toys.__main__ import WEIGHTS
from toys.detect import look
from toys.measure import CLIP, PICTURE, Case, cases, clip, picture, sdxl_engine, share, wan_engine
from toys.measure_all import goes
from workers.card import gpu
from workers.card.weights import quiet_libraries
from workers.job import SamplingParams, Turbo
from workers.resolve import scaled
from workers.tables import load_presets, size_scale
from workers.watch import Watch

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
WINDOW = 8
"""Pixels a side of the squares that SSIM compares."""
BRIGHT, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2
ALIKE = 99.0
"""PSNR of equal pictures, in dB."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Medians against the plain run, and by how much fewer pictures show what was asked."""

    psnr: float
    ssim: float
    granted: float

    def failures(self, gates: Mapping[str, float]) -> list[str]:
        failed = {
            "psnr": self.psnr < gates["psnr"],
            "ssim": self.ssim < gates["ssim"],
            "granted": self.granted > gates["granted"],
        }
        return [name for name, bad in failed.items() if bad]


@dataclass(frozen=True, slots=True)
class Medium:
    """What a kind of worker makes: prompts about these questions, and how large a share grants what they ask."""

    questions: tuple[str, ...]
    make: Callable[..., Any]
    shown: Callable[[Sequence[Case], Sequence[Any]], float]
    like: SamplingParams
    kind: str


def medium_of(candidate: Mapping[str, Any]) -> Medium:
    return CLIPS if candidate.get("clips") else PICTURES


def asked_of(medium: Medium, number: int) -> list[Case]:
    return [case for question in medium.questions for case in cases(question, number)]


def compare(
    engine: Any, candidate: Mapping[str, Any], asked: Sequence[Case], plain: Sequence[Any] = (), **size: int
) -> Verdict:
    """The same prompts and seeds, plain, which may be there already, and with the candidate's changes."""
    medium = medium_of(candidate)
    plain = plain or [medium.make(engine, case, **size) for case in asked]
    with MODELS[candidate.get("model", "")](engine):
        turbo = Turbo(on=True, **candidate["turbo"]) if "turbo" in candidate else Turbo()
        changes = {"turbo": turbo, **candidate.get("params", {}), **size}
        other = [medium.make(engine, case, **changes) for case in asked]
    pairs = list(zip(plain, other, strict=True))
    return Verdict(
        psnr=float(np.median([min(ALIKE, psnr(one / 255, two / 255)) for one, two in pairs])),
        ssim=float(np.median([ssim(*pair) for pair in pairs])),
        granted=medium.shown(asked, plain) - medium.shown(asked, other),
    )


def ssim(one: Any, other: Any) -> float:
    """Structural similarity in grey, by squares of `WINDOW` pixels that do not overlap; of a clip, over its frames."""
    a, b = (_squares(image.astype(float).mean(-1).reshape(-1, image.shape[-2])) for image in (one, other))
    means = a.mean(1), b.mean(1)
    spread = ((a - means[0][:, None]) * (b - means[1][:, None])).mean(1)
    bright = (2 * means[0] * means[1] + BRIGHT) / (means[0] ** 2 + means[1] ** 2 + BRIGHT)
    contrast = (2 * spread + CONTRAST) / (a.var(1) + b.var(1) + CONTRAST)
    return float((bright * contrast).mean())


def passes(name: str, verdict: Verdict) -> bool:
    """A planted fault passes by failing."""
    return bool(verdict.failures(gates(name))) == bool(TABLES["candidates"][name].get("fault"))


def gates(name: str) -> Mapping[str, float]:
    """Those for clips, for a candidate's turbo, or for the same numerics."""
    candidate = TABLES["candidates"][name]
    chosen: Mapping[str, float] = TABLES[next((key for key in ("clips", "turbo") if key in candidate), "gates")]
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("candidates", nargs="*", metavar="CANDIDATE", default=list(TABLES["candidates"]))
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="a MODEL_ROOT, by default the toys'")
    parser.add_argument("--device", help="by default a card, where there is one")
    parser.add_argument("--number", type=int, default=12, help="prompts of each question; of clips a quarter as many")
    options = parser.parse_args(arguments)
    quiet_libraries()
    print(f"{'candidate':20} {'PSNR':>6} {'SSIM':>6} {'fewer':>6}")
    with tempfile.TemporaryDirectory() as work:
        good = [_judged(medium, options, Path(work)) for medium in (PICTURES, CLIPS)]
    return 0 if all(good) else 1


def _judged(medium: Medium, options: argparse.Namespace, work: Path) -> bool:
    """Whether all of this medium's candidates that are asked for pass. One model is loaded at a time."""
    named = {name: TABLES["candidates"][name] for name in options.candidates}
    chosen = {name: candidate for name, candidate in named.items() if medium_of(candidate) is medium}
    if not chosen:
        return True
    asked = asked_of(medium, options.number if medium is PICTURES else -(-options.number // 4))
    width, height = scaled(load_presets()[medium.like.type].size, size_scale(options.weights, medium.kind))
    size = {"width": width, "height": height}
    engine, good = _opened(medium, options, work, size), True
    plain = [medium.make(engine, case, **size) for case in asked]
    for name, candidate in chosen.items():
        verdict = compare(engine, candidate, asked, plain, **size)
        failed = ", ".join(verdict.failures(gates(name))) or "none"
        good &= passes(name, verdict)
        print(f"{name:20} {verdict.psnr:6.1f} {verdict.ssim:6.3f} {verdict.granted:6.2f}  gates failed: {failed}")
    return good


def _opened(medium: Medium, options: argparse.Namespace, work: Path, size: Mapping[str, int]) -> Any:
    device = gpu.pick_device(options.device or "")
    if medium is PICTURES:
        return sdxl_engine(options.weights, device)
    engine, (case, *_) = wan_engine(options.weights, work, device), cases("still", 1)
    engine.calibrate(replace(medium.like, prompt=case.prompt, **size), Watch())
    return engine


@contextmanager
def _half_denoiser(engine: Any) -> Iterator[None]:
    """Weights as bfloat16 holds them, computed in float32."""
    import torch

    unet = engine._pipeline.unet
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    unet.load_state_dict({name: tensor.to(torch.bfloat16).to(tensor.dtype) for name, tensor in before.items()})
    try:
        yield
    finally:
        unet.load_state_dict(before)


@contextmanager
def _deaf_to_words(engine: Any) -> Iterator[None]:
    """Every prompt reads as an empty one, as after a text encoder that was loaded wrong."""
    texts = engine._texts
    hear = texts.encode
    texts.encode = lambda prompt, negative: hear("", negative)
    try:
        yield
    finally:
        del texts.encode


@contextmanager
def _boundless(engine: Any) -> Iterator[None]:
    """Magnitudes leave out whatever comes after the first step, but for the last."""
    from workers.engines.wan import criteria

    before = criteria.BEGINNING, criteria.IN_A_ROW
    criteria.BEGINNING, criteria.IN_A_ROW = 0.0, 1000
    try:
        yield
    finally:
        criteria.BEGINNING, criteria.IN_A_ROW = before


MODELS: Mapping[str, Callable[[Any], Any]] = {
    "": nullcontext,
    "half_denoiser": _half_denoiser,
    "deaf_to_words": _deaf_to_words,
    "boundless": _boundless,
}
"""Changes of a loaded engine, for as long as a candidate is tried."""


def _seen(asked: Sequence[Case], pictures: Sequence[Any]) -> float:
    return share(asked, [look(shown) for shown in pictures])


def _moving(asked: Sequence[Case], clips: Sequence[Any]) -> float:
    return sum(goes(str(case.wanted.motion), shown) for case, shown in zip(asked, clips, strict=True)) / len(asked)


PICTURES = Medium(("colour", "place"), picture, _seen, PICTURE, "sdxl")
CLIPS = Medium(("motion",), clip, _moving, CLIP, "wan")


def _squares(grey: Any) -> Any:
    """(squares, pixels)"""
    height, width = (side // WINDOW for side in grey.shape)
    cut = grey[: height * WINDOW, : width * WINDOW].reshape(height, WINDOW, width, WINDOW)
    return cut.transpose(0, 2, 1, 3).reshape(height * width, -1)


if __name__ == "__main__":
    sys.exit(main())
