"""What marks outlive, how often they are seen where there are none, and what they cost: `python -m bench.provenance`.

Pictures are drawn: rich ones, which have about as much in them as a photograph, and smooth ones, as illustrations have.
`--pictures DIR` takes a folder of pictures instead. `--device cuda` marks and reads on the card; without `--small`
pictures are of the true sizes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

from bench.copies import FILMS, STILLS, encoded
from bench.frame import psnr, say
from bench.pictures import Pixels, moving, rich, smooth
from workers import media
from workers.card import gpu
from workers.cli.evidence import Examiner, Mark
from workers.job import Output
from workers.provenance.chain import keys_in
from workers.provenance.credentials import Claims, sign
from workers.provenance.signers import LocalSigner
from workers.provenance.watermark import Watermark
from workers.safety.mark import bits_of, code_of
from workers.safety.mark_text import GENERATOR, SOURCE_TYPE, VERSION
from workers.watch import Watch

KNOWN_JOBS = 1000
SDXL_SECONDS, VIDEO_SECONDS = 2.71, 26.0
"""Of an SDXL job of six images and of `video_fast`, from docs/performance.md: what the cost is compared with."""


@dataclass(frozen=True)
class Bench:
    """`side` is the pictures' long one. `job` is the one that pictures are marked with, which the examiner knows."""

    marker: Watermark
    examiner: Examiner
    job: str
    side: int
    device: str


@dataclass(frozen=True)
class Known:
    """A registry that knows jobs only."""

    ids: Sequence[str]

    def jobs(self) -> list[str]:
        return list(self.ids)


def set_up(device: str, side: int, folder: Path) -> Bench:
    keys = replace(keys_in(folder / "provenance"), mark=b"the same at every run".ljust(32))
    ids = [str(uuid.UUID(int=number, version=4)) for number in range(KNOWN_JOBS)]
    marker = Watermark(device, lambda job_id: bits_of(code_of(job_id, keys.mark)), thumbnails=True)
    marker.load(Watch())
    marker.warm_up(Watch())
    return Bench(marker, Examiner(keys, Known(ids), "", lambda _: None, device), ids[7], side, device)


def marked(bench: Bench, frames: Pixels) -> Output:
    return bench.marker.mark([Output(0, 7, frames)], bench.job, Watch())[0]


def accuracy(bench: Bench, mark: Mark) -> float:
    wrong = int(mark.code, 16) ^ code_of(bench.job, bench.examiner.keys.mark)
    return 1 - wrong.bit_count() / 32


def row(name: str, bench: Bench, marks: Sequence[Mark]) -> str:
    right = statistics.median(accuracy(bench, mark) for mark in marks)
    found = sum(bool(mark.jobs) and mark.jobs[0].job_id == bench.job for mark in marks) / len(marks)
    own = sum(mark.own for mark in marks) / len(marks)
    confidence = statistics.median(mark.confidence for mark in marks)
    return f"| {name} | {right:.2f} | {found:.0%} | {own:.0%} | {confidence:.1f} |"


def outlived(bench: Bench, pictures: Sequence[Pixels], what: str) -> Iterator[str]:
    outputs = [marked(bench, picture[None]) for picture in track(pictures, what, transient=True)]
    seen = statistics.median(
        psnr(output.frames[0] / 255, picture / 255) for output, picture in zip(outputs, pictures, strict=True)
    )
    yield f"\n{what}: {len(pictures)}, PSNR {seen:.1f} dB\n"
    yield from head("copy")
    for name, copy in STILLS.items():
        yield row(name, bench, [bench.examiner.mark(copy(output.frames[0])[None]) for output in outputs])
    small = [encoded("WEBP", media.THUMBNAIL_QUALITY)(output.thumbnail) for output in outputs]
    yield row("the thumbnail", bench, [bench.examiner.mark(picture[None]) for picture in small])


def outlived_in_films(bench: Bench, clips: Sequence[Pixels]) -> Iterator[str]:
    yield f"\nclips: {len(clips)} of {len(clips[0])} frames, {clips[0].shape[2]}×{clips[0].shape[1]}\n"
    yield from head("copy")
    films = [marked(bench, clip).frames for clip in clips]
    for name, copy in FILMS.items():
        yield row(name, bench, [bench.examiner.mark(copy(film)) for film in films])


def head(first: str) -> Iterator[str]:
    yield f"| {first} | bits right | job found of {KNOWN_JOBS} | ours without any job known | confidence |"
    yield "|---|---|---|---|---|"


def seen_in_vain(bench: Bench, count: int) -> Iterator[str]:
    """Pictures nobody marked, rich and smooth in turn, looked at in every scale."""
    drawn = (rich, smooth)
    marks = [
        bench.examiner.mark(drawn[seed % 2](10_000 + seed, (bench.side, bench.side))[None])
        for seed in track(range(count), "unmarked", transient=True)
    ]
    jobs, own = sum(bool(mark.jobs) for mark in marks), sum(mark.own for mark in marks)
    highest = max(mark.confidence for mark in marks)
    yield f"\nunmarked: {count}; led to a job: {jobs}; taken for ours: {own}; highest confidence {highest:.1f}"


def cost(bench: Bench, runs: int, folder: Path, frames: int) -> Iterator[str]:
    size = (bench.side, bench.side)
    six, faint = ([Output(index, index, draw(index, size)[None]) for index in range(6)] for draw in (rich, smooth))
    clip = [Output(0, 7, moving(1, (bench.side * 13 // 16, bench.side * 15 // 32), frames))]
    yield f"\n{gpu.card_name(bench.device)}: medians of {runs}\n"
    yield "| what | seconds | of a job |"
    yield "|---|---|---|"
    yield _spent(
        "mark, six images and thumbnails", lambda: bench.marker.mark(six, bench.job, Watch()), runs, SDXL_SECONDS
    )
    if gpu.on_card(bench.device):  # a processor takes minutes
        yield _spent("the same, smooth", lambda: bench.marker.mark(faint, bench.job, Watch()), runs, SDXL_SECONDS)
    yield _spent(
        f"mark, a clip of {frames} frames", lambda: bench.marker.mark(clip, bench.job, Watch()), runs, VIDEO_SECONDS
    )
    for kind, output, seconds in (("image", six[0], SDXL_SECONDS / 6), ("video", clip[0], VIDEO_SECONDS)):
        options: dict[str, Any] = {"fps": 16, "quality": "fast", "limit": 1 << 30, "text": {}, "thumbnail": False}
        path = media.encode(output, folder, media=kind, **options).path
        yield _spent(f"sign, a file {path.suffix}", _signing(path, folder), runs, seconds)


def _signing(path: Path, folder: Path) -> Callable[[], None]:
    keys, content = keys_in(folder / "provenance"), path.read_bytes()
    signer, claims = LocalSigner(keys.certificates, keys.signing), Claims(GENERATOR, VERSION, SOURCE_TYPE, path.name)

    def again() -> None:
        path.write_bytes(content)
        sign(path, claims, signer)

    return again


def _spent(what: str, work: Callable[[], object], runs: int, job: float) -> str:
    """The first time does not count."""
    taken = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    median = statistics.median(taken[1:])
    return f"| {what} | {median:.3f} | {median / job:.1%} |"


def pictures_in(folder: Path) -> list[Pixels]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    return [np.array(Image.open(path).convert("RGB")) for path in files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="", help="default: the card where there is one")
    parser.add_argument("--count", type=int, default=8, help="pictures of each kind")
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--unmarked", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--pictures", type=Path, help="a folder of pictures to mark instead of drawn ones")
    parser.add_argument("--side", type=int, default=1024, help="the long side of drawn pictures")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    side = 64 if given.small else given.side
    with tempfile.TemporaryDirectory() as name:
        bench = set_up(gpu.pick_device(given.device), side, Path(name))
        kinds = {"rich pictures": rich, "smooth pictures": smooth}
        drawn = {what: [draw(seed, (side, side)) for seed in range(given.count)] for what, draw in kinds.items()}
        if given.pictures:
            drawn = {"pictures": pictures_in(given.pictures)}
        for what, pictures in drawn.items():
            if pictures:
                say(*outlived(bench, pictures, what))
        if given.clips:
            size = (side * 13 // 16, side * 15 // 32)
            say(*outlived_in_films(bench, [moving(seed, size, given.frames) for seed in range(given.clips)]))
        if given.unmarked:
            say(*seen_in_vain(bench, given.unmarked))
        if given.runs:
            say(*cost(bench, given.runs, Path(name), given.frames))


if __name__ == "__main__":
    main()
