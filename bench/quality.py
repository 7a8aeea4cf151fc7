"""Whether a setting that saves time still makes the same pictures: `python -m bench.quality [CANDIDATE …]`.

Every candidate of quality.toml, or those named, against the plain run on the toy weights, whose pictures a detector can
read. Exit code 1 where a candidate fails a gate, or a planted fault passes them all.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.frame import psnr
from toys.__main__ import WEIGHTS
from toys.detect import look
from toys.measure import Case, cases, picture, sdxl_engine, share
from workers.card.weights import quiet_libraries
from workers.job import Turbo

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
QUESTIONS = ("colour", "place")
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


def compare(engine: Any, candidate: Mapping[str, Any], number: int) -> Verdict:
    """The same prompts and seeds, plain and with the candidate's changes."""
    asked = [case for question in QUESTIONS for case in cases(question, number)]
    plain = [picture(engine, case) for case in asked]
    with MODELS[candidate.get("model", "")](engine):
        turbo = Turbo(on=True, **candidate["turbo"]) if "turbo" in candidate else Turbo()
        other = [picture(engine, case, turbo=turbo, **candidate.get("params", {})) for case in asked]
    pairs = list(zip(plain, other, strict=True))
    return Verdict(
        psnr=float(np.median([min(ALIKE, psnr(one / 255, two / 255)) for one, two in pairs])),
        ssim=float(np.median([ssim(*pair) for pair in pairs])),
        granted=_shown(asked, plain) - _shown(asked, other),
    )


def ssim(one: Any, other: Any) -> float:
    """Structural similarity in grey, by squares of `WINDOW` pixels that do not overlap."""
    a, b = (_squares(image.astype(float).mean(2)) for image in (one, other))
    means = a.mean(1), b.mean(1)
    spread = ((a - means[0][:, None]) * (b - means[1][:, None])).mean(1)
    bright = (2 * means[0] * means[1] + BRIGHT) / (means[0] ** 2 + means[1] ** 2 + BRIGHT)
    contrast = (2 * spread + CONTRAST) / (a.var(1) + b.var(1) + CONTRAST)
    return float((bright * contrast).mean())


def passes(name: str, verdict: Verdict) -> bool:
    """A planted fault passes by failing."""
    return bool(verdict.failures(gates(name))) == bool(TABLES["candidates"][name].get("fault"))


def gates(name: str) -> Mapping[str, float]:
    """Those for the same numerics, or for a candidate's turbo."""
    chosen: Mapping[str, float] = TABLES["turbo" if "turbo" in TABLES["candidates"][name] else "gates"]
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("candidates", nargs="*", metavar="CANDIDATE", default=list(TABLES["candidates"]))
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="a MODEL_ROOT with the SDXL toy")
    parser.add_argument("--number", type=int, default=12, help="prompts of each of the two questions")
    options = parser.parse_args(arguments)
    quiet_libraries()
    engine, good = sdxl_engine(options.weights), True
    print(f"{'candidate':12} {'PSNR':>6} {'SSIM':>6} {'fewer':>6}")
    for name in options.candidates:
        verdict = compare(engine, TABLES["candidates"][name], options.number)
        failed = ", ".join(verdict.failures(gates(name))) or "none"
        good &= passes(name, verdict)
        print(f"{name:12} {verdict.psnr:6.1f} {verdict.ssim:6.3f} {verdict.granted:6.2f}  gates failed: {failed}")
    return 0 if good else 1


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


MODELS: Mapping[str, Callable[[Any], Any]] = {
    "": nullcontext,
    "half_denoiser": _half_denoiser,
    "deaf_to_words": _deaf_to_words,
}
"""Changes of a loaded engine, for as long as a candidate is tried."""


def _shown(asked: Sequence[Case], pictures: Sequence[Any]) -> float:
    return share(asked, [look(shown) for shown in pictures])


def _squares(grey: Any) -> Any:
    """(squares, pixels)"""
    height, width = (side // WINDOW for side in grey.shape)
    cut = grey[: height * WINDOW, : width * WINDOW].reshape(height, WINDOW, width, WINDOW)
    return cut.transpose(0, 2, 1, 3).reshape(height * width, -1)


if __name__ == "__main__":
    sys.exit(main())
