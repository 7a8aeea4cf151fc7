"""Whether pixels can be what a model was asked for: their shape, and that they are no black, blank, frozen or noisy
failure. Looked at are pixels, never the size of a file.

Each threshold leaves room for what is legitimate and looks alike: nights have some light, fog has a gradient, a still
life flickers, grain lies over something, stars stand far apart. `tests/test_flaws.py` draws them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from workers.job import Output, SamplingParams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Luma = NDArray[np.float32]

Flaw = Literal["wrong size", "black", "one colour", "frozen", "noise"]

LOOKED = 9
"""Frames of a clip that are looked at, evenly spread. What is wrong must be wrong in all of them."""
BLACK = 8
"""The brightest value of a picture that shows nothing; what came of values that are no numbers is 0."""
PLAIN = 4
"""The most that brightest and darkest value may differ in a picture of one colour."""
STILL, STILL_BLOCK = 0.1, 0.5
"""Mean change between two frames looked at, over the whole and in the block that changes most. Below both: frozen."""
BLOCK = 8
"""Pixels to a side: one place of the models' latents."""
BUSY, BUSY_SHARE = 8, 0.5
"""Noise is everywhere: this far from the middle, in this share of the pixels. Stars and snow are not."""
PIXEL_NOISE, PIXEL_STRENGTH = 0.3, 20.0
"""Correlation of neighbours below which, and deviation from which on, pixels are noise."""
LATENT_NOISE, LATENT_STRENGTH, LATENT_BLOCKS = (0.1, 0.15), 12.0, 400
"""The same for blocks and blocks of four blocks; of fewer blocks nothing can be told."""


def find(output: Output, params: SamplingParams) -> Flaw | None:
    """What is wrong with an output; only its shape where it comes of a reference, which may be black itself."""
    frames = output.frames
    if frames.shape != (params.frames, params.height, params.width, 3) or frames.dtype.name != "uint8":
        return "wrong size"
    if params.guide is not None:
        return None
    looked = _spread(frames)
    if looked.max() <= BLACK:
        return "black"
    if all(_range(frame[::4, ::4]) <= PLAIN for frame in looked) and all(_range(frame) <= PLAIN for frame in looked):
        return "one colour"
    if params.media == "video" and len(frames) > 1 and _frozen(frames):
        return "frozen"
    if all(_noise(frame) for frame in looked):
        return "noise"
    return None


def _spread(frames: Frames, *, pairs: bool = False) -> Frames:
    """Some frames; with `pairs` also the one after each, so that no rhythm hides what moves."""
    import numpy as np

    places = np.linspace(0, len(frames) - 1, min(len(frames), LOOKED)).astype(int)
    if pairs:
        places = np.unique(np.minimum([places, places + 1], len(frames) - 1))
    spread: Frames = frames[places]
    return spread


def _range(frame: Frames) -> int:
    return max(int(frame[..., channel].max()) - int(frame[..., channel].min()) for channel in range(3))


def _frozen(frames: Frames) -> bool:
    import numpy as np

    changes = np.abs(np.diff(_luma(_spread(frames, pairs=True)[:, ::2, ::2]), axis=0))
    return bool(changes.mean() < STILL) and all(_blocks(change, BLOCK // 2).max() < STILL_BLOCK for change in changes)


def _noise(frame: Frames) -> bool:
    """Neighbours that know nothing of each other: pixels, or places of the latents."""
    import numpy as np

    rows, below = (_luma(frame[first::BLOCK]) for first in (0, 1))
    busy = float((np.abs(rows - np.median(rows)) > BUSY).mean())
    if busy < BUSY_SHARE:
        return False
    across, down = _alike(rows[:, 1:], rows[:, :-1]), _alike(rows[: len(below)], below)
    if rows.std() >= PIXEL_STRENGTH and max(abs(across), abs(down)) < PIXEL_NOISE:
        return True
    places = _blocks(_luma(frame[::2, ::2]), BLOCK // 2)
    if places.size < LATENT_BLOCKS or places.std() < LATENT_STRENGTH:
        return False
    scales = zip((places, _blocks(places, 2)), LATENT_NOISE, strict=True)
    return all(max(_alongside(luma)) < limit for luma, limit in scales)


def _luma(frames: Frames) -> Luma:
    """Near enough, and several times as fast as weights by the book."""
    red, green, blue = (frames[..., channel].astype("float32") for channel in range(3))
    luma: Luma = (red + 2 * green + blue) / 4
    return luma


def _alongside(luma: Luma) -> tuple[float, float]:
    """How alike neighbours are downwards and across, whichever way."""
    return abs(_alike(luma[1:], luma[:-1])), abs(_alike(luma[:, 1:], luma[:, :-1]))


def _alike(one: Luma, other: Luma) -> float:
    """Correlation; 1 where nothing varies."""
    one, other = one - one.mean(), other - other.mean()
    spread = float((one * one).mean() * (other * other).mean()) ** 0.5
    return float((one * other).mean()) / spread if spread else 1.0


def _blocks(luma: Luma, side: int) -> Luma:
    """Means of squares; what is left over at the edges is left out."""
    height, width = (max(1, length // side) for length in luma.shape)
    inner = luma[: height * side, : width * side]
    means: Luma = inner.reshape(height, -1, width, inner.shape[1] // width).mean((1, 3))
    return means
