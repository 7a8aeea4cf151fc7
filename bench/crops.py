"""Would hashes of parts find copies that are cut at one side, and how many innocent pictures would they name?

    python -m bench.crops --blocked 200 --others 2500

Of each blocked picture every part that is left when one side is cut off is hashed, in steps of 3 % of its length.
Copies are cut at a random place, halved and encoded again as JPEG.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.pictures import Pixels, rich, smooth
from workers.safety.scorers import fingerprint

Hashes = NDArray[np.uint64]
KEPT = [0.35 + 0.03 * step for step in range(21)]
LIMITS = (4, 6, 8)
CUTS = 2


def part(picture: Pixels, side: int, kept: float) -> Pixels:
    """What is left when all but this share is cut off at a side."""
    turned = np.rot90(picture, side)
    return np.ascontiguousarray(np.rot90(turned[: int(kept * len(turned))], -side))


def hashes(pictures: Iterator[Pixels]) -> Hashes:
    return np.array([int(fingerprint(each) or "0", 16) for each in pictures], np.uint64)


def worn(picture: Pixels) -> Pixels:
    image, file = Image.fromarray(picture), io.BytesIO()
    image.resize((image.width // 2, image.height // 2)).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file).convert("RGB"))


def nearest(blocked: Hashes, seen: np.uint64) -> int:
    apart = (blocked ^ seen).view(np.uint8).reshape(len(blocked), 8)
    return int(np.unpackbits(apart, axis=1).sum(1).min())


def measured(draw: Callable[..., Pixels], count: int) -> tuple[Hashes, list[int]]:
    """Hashes of all parts, and how far those of cut copies are from their picture's nearest."""
    chance, found, copies = np.random.default_rng(1), [], []
    for seed in range(count):
        picture = draw(seed, (384, 384))
        found.append(hashes(part(picture, side, kept) for side in range(4) for kept in KEPT))
        for _ in range(CUTS):
            copy = worn(part(picture, int(chance.integers(4)), chance.uniform(0.36, 0.95)))
            copies.append(nearest(found[-1], hashes(iter([copy]))[0]))
    return np.concatenate(found), copies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocked", type=int, default=200, help="pictures of each kind")
    parser.add_argument("--others", type=int, default=2500, help="unrelated pictures of each kind")
    wanted = parser.parse_args()
    results = [measured(draw, wanted.blocked) for draw in (rich, smooth)]
    blocked, copies = np.concatenate([parts for parts, _ in results]), np.array([d for _, far in results for d in far])
    others = hashes(draw(50_000 + seed, (256, 256)) for draw in (rich, smooth) for seed in range(wanted.others))
    far = np.array([nearest(blocked, other) for other in others])
    print(
        f"| bits that may differ | found of {len(copies)} cut copies | wrong of {len(others)} others |\n|---|---|---|"
    )
    for limit in LIMITS:
        print(f"| {limit} | {(copies <= limit).mean():.0%} | {(far <= limit).sum()} |")


if __name__ == "__main__":
    main()
