"""A mark inside the pixels that outlives copies, put in and read on the card or on the processor.

It is computed on a picture whose long side is `SIDE`, and the difference is scaled up: so it is as coarse in a large
picture as in a small one, and is found at the same scale in copies of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workers.card import gpu, host
from workers.job import Output
from workers.provenance.watermark_net import DECODER, ENCODER, difference, logits_in, read_weights, sharpened
from workers.watch import Watch

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

SIDE = 512
"""Pixels of the long side at which a mark is made; smaller pictures are taken as they are."""

HELD = 4
"""Frames of a clip that share one difference on a processor, which is for trials: there all of them would take seconds.
A card makes one for each frame; shared ones do not outlive much compression."""

MOST_STRENGTH = 3.0
"""For pictures smaller than `SIDE`, where fewer pixels must say as much."""

STEPS, MORE_STEPS = (0.010, 0.009, 0.007, 0.005, 0.0035, 0.002), (0.005, 0.0025)
"""By which a mark is sharpened where it cannot be read, since a smooth picture hides less than a rich one: in the first
frame of a clip, and in each that follows, which begins with what the one before it gained. A processor leaves it at
that. Steps that stay as long as the first go back and forth in the end."""

TOGETHER = 3
"""Pictures that are marked at once: a card is slow with many small orders, and each that must be sharpened takes memory
for that moment."""

WRONG_BITS = 1
THUMBNAIL_SIDE = 256

Bits = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is seen in a picture whose long side is scaled to `side`: a value for each bit, positive for 1."""

    side: int
    logits: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """The values' mean size as it would be at `SIDE`: fewer pixels give larger values by chance."""
        return sum(map(abs, self.logits)) / len(self.logits) * self.side / SIDE


class Watermark:
    """Marks outputs with the bits of their job; makes their thumbnails too, where these are wanted, since a mark does
    not outlive such shrinking."""

    def __init__(self, device: str, bits: Bits, *, thumbnails: bool) -> None:
        self._device, self._bits, self._thumbnails = device, bits, thumbnails
        self._held = 1 if gpu.on_card(device) else HELD
        self._more_steps: Sequence[float] = MORE_STEPS if gpu.on_card(device) else ()
        self._encoder: Mapping[str, torch.Tensor] = {}
        self._decoder: Mapping[str, torch.Tensor] = {}

    def load(self, watch: Watch) -> None:
        """Raises `Misconfigured` where the weights are missing or not the known ones."""
        with watch.phase("load"):
            self._encoder, self._decoder = (read_weights(name, self._device) for name in (ENCODER, DECODER))

    def warm_up(self, watch: Watch) -> None:
        """Once, at the size of most work, so that the first job does not wait for the choice of kernels."""
        import numpy as np

        blank = (
            np.zeros((1, SIDE, SIDE, 3), np.uint8) if gpu.on_card(self._device) else np.zeros((1, 8, 8, 3), np.uint8)
        )
        with watch.phase("warm_up"):
            self.mark([Output(0, 0, blank)], "", watch)

    def mark(self, outputs: Sequence[Output], job_id: str, watch: Watch) -> list[Output]:
        """The same outputs with marked pixels; pictures of a job have one size. Raises `EngineBroken` of a card, and
        what stops the watch."""
        import torch

        with watch.phase("watermark"), gpu.guard(), torch.no_grad():
            marked = self._marked(outputs, self._bits(job_id), watch)
            if sum(len(output.frames) for output in marked) > 1:  # a single picture takes little, and no time to spare
                gpu.trim()
            return marked

    def _marked(self, outputs: Sequence[Output], bits: Sequence[int], watch: Watch) -> list[Output]:
        if any(len(output.frames) > 1 for output in outputs):
            return [self._clip(output, bits, watch) for output in outputs]
        groups = [outputs[start : start + TOGETHER] for start in range(0, len(outputs), TOGETHER)]
        return [output for group in groups for output in self._pictures(group, bits, watch)]

    def _pictures(self, outputs: Sequence[Output], bits: Sequence[int], watch: Watch) -> list[Output]:
        import numpy as np

        frames = _floats(_tensor(np.concatenate([output.frames for output in outputs])).to(self._device))
        marked = _on_host(_added(frames, self._moved(frames, bits)[0]))
        thumbnails = self._small(frames, marked, bits) if self._thumbnails else [None] * len(outputs)
        watch.step(len(outputs), len(outputs))
        return [
            replace(output, frames=frame[None], thumbnail=thumbnail)
            for output, frame, thumbnail in zip(outputs, marked, thumbnails, strict=True)
        ]

    def _clip(self, output: Output, bits: Sequence[int], watch: Watch) -> Output:
        import torch

        groups, pixels = [], _tensor(output.frames).to(self._device)
        middle = _floats(pixels[len(pixels) // 2, None])
        moved, gained = self._moved(middle, bits)
        for start in range(0, len(pixels), self._held):
            group = _floats(pixels[start : start + self._held])
            moved, gained = self._moved(group[len(group) // 2, None], bits, gained)
            groups.append(_added(group, moved))
            watch.step(start + self._held, len(pixels))
        frames = _on_host(torch.cat(groups))
        thumbnail = self._small(middle, frames[len(frames) // 2, None], bits)[0] if self._thumbnails else None
        return replace(output, frames=frames, thumbnail=thumbnail)

    def _moved(
        self, frames: torch.Tensor, bits: Sequence[int], gained: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What marks each of these frames, and what sharpening had to add to that, if anything. `gained`: what it added
        before."""
        small = _fitted(frames, SIDE)
        least = min(MOST_STRENGTH, max(1.0, SIDE / max(small.shape[2:])))
        moved = least * difference(small, bits, self._encoder)
        if gained is not None:
            sharp = sharpened(small, moved, gained, bits, self._decoder, self._more_steps)
            return sharp, sharp - moved
        faint = self._faint(small + moved, bits)
        if not len(faint):
            return moved, None
        plain = moved[faint]
        sharp = moved.index_copy(0, faint, sharpened(small[faint], plain, 0 * plain, bits, self._decoder, STEPS))
        return sharp, sharp - moved

    def _faint(self, frames: torch.Tensor, bits: Sequence[int]) -> torch.Tensor:
        """Which of these frames, by index, cannot be read."""
        import torch

        wanted = torch.tensor(bits, dtype=torch.bool, device=frames.device)
        wrong = ((logits_in(frames, self._decoder) > 0) != wanted).sum(1)
        return (wrong > WRONG_BITS).nonzero()[:, 0]

    def _small(self, frames: torch.Tensor, marked: Frames, bits: Sequence[int]) -> Frames:
        """Thumbnails (n, height, width, 3)."""
        if max(marked.shape[1:]) <= THUMBNAIL_SIDE:
            return marked
        small = _fitted(frames, THUMBNAIL_SIDE)
        return _on_host(_added(small, self._moved(small, bits)[0]))


class Detector:
    """Reads marks. Whether what it reads is one, is for others to say."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._weights = read_weights(DECODER, device)

    def read(self, frames: Frames, side: int = SIDE) -> Reading:
        """One reading of all these frames together."""
        import torch

        with torch.inference_mode():
            pixels = [_tensor(frame[None]).to(self._device) for frame in frames]
            seen = [logits_in(_fitted(_floats(each), side, grow=True), self._weights) for each in pixels]
            return Reading(side, tuple(torch.cat(seen).mean(0).tolist()))


def _tensor(pixels: Frames) -> torch.Tensor:
    """torch wants memory that may be written, though nothing does."""
    import numpy as np
    import torch

    return torch.from_numpy(np.require(pixels, requirements=["C", "W"]))


def _floats(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes (n, height, width, 3) as the networks take them: (n, 3, height, width) from -1 to 1."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _added(frames: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """Marked pixels: frames that follow each other may share one difference."""
    from torch.nn import functional

    return _bytes(frames + functional.interpolate(moved, size=frames.shape[2:], mode="bilinear"))


def _bytes(frames: torch.Tensor) -> torch.Tensor:
    import torch

    return ((frames + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _on_host(pixels: torch.Tensor) -> Frames:
    frames: Frames = host.fetched(pixels).numpy()
    return frames


def _fitted(frames: torch.Tensor, side: int, *, grow: bool = False) -> torch.Tensor:
    """Frames with that long side, or as they are if they are smaller and not to `grow`."""
    from torch.nn import functional

    height, width = frames.shape[2:]
    factor = side / max(height, width)
    if factor == 1.0 or (factor > 1.0 and not grow):
        return frames
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return functional.interpolate(frames, size=size, mode="bicubic" if factor > 1 else "bilinear", antialias=factor < 1)
