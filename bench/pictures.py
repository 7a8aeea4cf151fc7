"""Pictures and clips drawn by numbers, for measurements: the same for the same seed, on any machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Pixels = NDArray[np.uint8]


def rich(seed: int, size: tuple[int, int] = (512, 512)) -> Pixels:
    """As rich as a photograph: waves of colour, shapes, clouds and film grain."""
    source = np.random.default_rng(seed)
    soft = _shapes(_waves(source, size), source).filter(
        ImageFilter.GaussianBlur(source.uniform(0.5, 2) * max(size) / 1024)
    )
    clouds = source.integers(0, 255, (size[1] // 16 + 1, size[0] // 16 + 1), np.uint8)
    cloudy = np.asarray(Image.fromarray(clouds).resize(size, Image.Resampling.BICUBIC), np.float64)[..., None] - 128
    grain = source.normal(0, source.uniform(1, 6), (size[1], size[0], 3))
    return _bytes(np.asarray(soft, np.float64) + cloudy * source.uniform(0.05, 0.2) + grain)


def smooth(seed: int, size: tuple[int, int] = (512, 512)) -> Pixels:
    """As little as an illustration has: waves of colour and a few shapes."""
    source = np.random.default_rng(seed)
    return np.asarray(_shapes(_waves(source, size), source).filter(ImageFilter.GaussianBlur(1)))


def moving(seed: int, size: tuple[int, int] = (832, 480), frames: int = 81, pixels_a_frame: int = 2) -> Pixels:
    """A rich scene that a camera moves along."""
    width, height = size
    scene = rich(seed, (width + pixels_a_frame * frames, height))
    return np.stack([scene[:, pixels_a_frame * i : pixels_a_frame * i + width] for i in range(frames)])


def _waves(source: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / max(size)
    waves = []
    for _ in range(3):
        down, right, start = source.uniform(1, 6, 3)
        waves.append(128 + source.uniform(30, 90) * np.sin(down * y + right * x + start))
    return Image.fromarray(_bytes(np.stack(waves, -1)))


def _shapes(picture: Image.Image, source: np.random.Generator) -> Image.Image:
    draw, most = ImageDraw.Draw(picture), max(picture.size)
    for _ in range(int(source.integers(5, 40))):
        left, top = (source.uniform(0, side) for side in picture.size)
        wide, flat = source.uniform(0.01, 0.3) * most, source.uniform(0.3, 1)
        shape = draw.ellipse if source.random() < 0.5 else draw.rectangle
        shape((left, top, left + wide, top + wide * flat), tuple(source.integers(0, 255, 3).tolist()))
    return picture


def _bytes(values: NDArray[np.float64]) -> Pixels:
    return values.round().clip(0, 255).astype(np.uint8)
