"""Which pixels are a failure and which only look like one. All are drawn here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from wan_support import PICTURE

from workers.job import Guide, Output
from workers.making.flaws import find

HEIGHT, WIDTH, FRAMES = 240, 416, 17
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
CHANCE = np.random.default_rng(7)
Draw = Callable[[], Any]


def grey(luma: Any) -> Any:
    return np.clip(np.repeat(np.asarray(luma, dtype=np.float64)[..., None], 3, axis=-1), 0, 255).astype(np.uint8)


def noise(sigma: float, level: float = 128.0) -> Any:
    return grey(level + CHANCE.normal(0, sigma, (HEIGHT, WIDTH)))


def soft(width: float, strength: float) -> Any:
    """Random hills of a width in pixels."""
    waves = np.fft.fftfreq(HEIGHT)[:, None] ** 2 + np.fft.fftfreq(WIDTH)[None] ** 2
    hills = np.fft.ifft2(np.fft.fft2(CHANCE.normal(size=(HEIGHT, WIDTH))) * np.exp(-2 * (np.pi * width) ** 2 * waves))
    return strength * hills.real / hills.real.std()


def disc(luma: Any, value: float, radius: int = 12, row: int = 120, column: int = 200) -> Any:
    return np.where((ROWS - row) ** 2 + (COLUMNS - column) ** 2 < radius**2, value, luma)


def dots(number: int, level: float, value: float) -> Any:
    luma = np.full((HEIGHT, WIDTH), level)
    luma[CHANCE.integers(0, HEIGHT, number), CHANCE.integers(0, WIDTH, number)] = value
    return grey(luma)


def places() -> Any:
    """Each place of the latents on its own, as where nothing was denoised."""
    return grey(128 + np.kron(CHANCE.normal(0, 40, (HEIGHT // 8, WIDTH // 8)), np.ones((8, 8))))


def plain(red: int, green: int, blue: int, spread: int = 1) -> Any:
    return (np.array([red, green, blue]) + CHANCE.integers(0, spread, (HEIGHT, WIDTH, 3))).astype(np.uint8)


FAILURES: dict[str, tuple[Draw, str]] = {
    "nothing": (lambda: plain(0, 0, 0), "black"),
    "next to nothing": (lambda: noise(1.0, 2.0).clip(0, 8), "black"),
    "grey": (lambda: plain(128, 128, 128), "one colour"),
    "blue, nearly": (lambda: plain(10, 20, 200, spread=3), "one colour"),
    "white": (lambda: plain(255, 255, 255), "one colour"),
    "white noise": (lambda: CHANCE.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), "noise"),
    "grey noise": (lambda: noise(40.0), "noise"),
    "latents that nobody denoised": (places, "noise"),
}
PICTURES: dict[str, Draw] = {
    "a moonless night": lambda: grey(disc(10 + ROWS / HEIGHT * 6, 60, radius=3)),
    "a night with grain": lambda: noise(3.0, 9.0),
    "stars": lambda: dots(400, 4, 230),
    "more stars": lambda: dots(5000, 4, 255),
    "falling snow": lambda: dots(8000, 120, 250),
    "a plain wall": lambda: grey(200 + COLUMNS / WIDTH * 8),
    "a plain wall with a nail": lambda: grey(disc(np.full((HEIGHT, WIDTH), 200.0), 90, radius=2)),
    "a plain wall with grain": lambda: noise(4.0, 180.0),
    "fog": lambda: grey(190 + ROWS / HEIGHT * 15 + soft(30, 2)),
    "a white sheet with a shadow": lambda: grey(250 - soft(40, 3) ** 2),
    "forest": lambda: grey(90 + soft(2, 25) + soft(20, 25)),
    "gravel": lambda: grey(128 + soft(2, 40)),
    "sand with grain": lambda: (noise(12.0) + grey(soft(25, 15) + 30) // 2).astype(np.uint8),
    "a film still with strong grain": lambda: grey(128 + soft(25, 40) + CHANCE.normal(0, 20, (HEIGHT, WIDTH))),
    "a chessboard": lambda: grey((ROWS // 16 + COLUMNS // 16) % 2 * 255),
    "fine checks": lambda: grey((ROWS // 8 + COLUMNS // 8) % 2 * 255),
    "stripes": lambda: grey(COLUMNS // 2 % 2 * 255),
    "a page of text": lambda: grey(np.where((ROWS % 12 < 7) & (CHANCE.random((HEIGHT, WIDTH)) < 0.3), 20, 245)),
}


def flaw(drawn: Any, **changes: Any) -> str | None:
    stacked = drawn if drawn.ndim == 4 else drawn[None]
    params = {"width": WIDTH, "height": HEIGHT, "frames": len(stacked), **changes}
    if len(stacked) > 1:
        params["media"] = "video"
    return find(Output(0, 7, stacked), replace(PICTURE, **params))


@pytest.mark.parametrize(("draw", "said"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_is_named(draw: Draw, said: str) -> None:
    assert flaw(draw()) == said


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES.keys())
def test_a_picture_that_looks_like_a_failure_is_none(draw: Draw) -> None:
    assert flaw(draw()) is None


def clip(frame: Callable[[int], Any]) -> Any:
    return np.stack([frame(index) for index in range(FRAMES)])


WALL = 180 + COLUMNS / WIDTH * 20
CLIPS: dict[str, Draw] = {
    "a still life with sensor noise": lambda: clip(lambda _: grey(disc(WALL, 60) + CHANCE.normal(0, 0.7, WALL.shape))),
    "a candle in the dark": lambda: clip(lambda i: grey(disc(np.full(WALL.shape, 6.0), 200 + 10 * (i % 3), radius=5))),
    "a leaf that moves by a pixel": lambda: clip(lambda i: grey(disc(WALL, 60, radius=6, column=200 + i % 2))),
    "a slow zoom": lambda: clip(lambda i: grey(disc(WALL, 60, radius=40 + i))),
    "a fade from black": lambda: clip(lambda i: grey(disc(WALL, 60) * i / FRAMES)),
    "a flash of white": lambda: clip(lambda i: grey(disc(WALL, 60) if i else np.full(WALL.shape, 255.0))),
}
FAILED_CLIPS: dict[str, tuple[Draw, str]] = {
    "one frame for ever": (lambda: clip(lambda _: grey(disc(WALL, 60))), "frozen"),
    "one frame, rounded differently": (
        lambda: clip(lambda i: grey(np.where((i == ROWS) & (COLUMNS < 4), WALL + 1, WALL))),
        "frozen",
    ),
    "black": (lambda: clip(lambda _: plain(0, 0, 0)), "black"),
    "a colour that changes": (lambda: clip(lambda i: plain(40 + i, 40, 40)), "one colour"),
    "noise": (lambda: CHANCE.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8), "noise"),
}


@pytest.mark.parametrize("draw", CLIPS.values(), ids=CLIPS.keys())
def test_a_clip_in_which_little_happens_is_no_failure(draw: Draw) -> None:
    assert flaw(draw()) is None


@pytest.mark.parametrize(("draw", "said"), FAILED_CLIPS.values(), ids=FAILED_CLIPS.keys())
def test_a_failed_clip_is_named(draw: Draw, said: str) -> None:
    assert flaw(draw()) == said


@pytest.mark.parametrize("changes", [{"width": 400}, {"height": 256}, {"frames": 5}])
def test_another_shape_than_was_asked_for_is_a_failure(changes: dict[str, int]) -> None:
    assert flaw(grey(WALL), **changes) == "wrong size"


def test_values_that_are_not_eight_bits_are_a_failure() -> None:
    assert flaw(grey(WALL).astype(np.float32)) == "wrong size"


def test_what_comes_of_a_reference_may_look_like_it() -> None:
    assert flaw(plain(0, 0, 0), guide=Guide("start", change=0.05, copy=True)) is None
    assert flaw(plain(0, 0, 0), guide=Guide("start"), width=64) == "wrong size"
