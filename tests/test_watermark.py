"""The mark in the pixels: not seen, found again in copies, missing where there is none."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.pictures import moving, rich, smooth
from workers.errors import Interrupted, Misconfigured
from workers.job import Output
from workers.provenance import watermark_net
from workers.provenance.watermark import Detector, Reading, Watermark
from workers.safety.mark import bits_of, code_in, code_of, matches
from workers.watch import Watch

KEY, JOB = b"k" * 32, "b91f0000-0000-4000-8000-000000000001"
CODE = code_of(JOB, KEY)
SIDE = 320
GATE = 4.0

pytestmark = pytest.mark.pipelines


@pytest.fixture(scope="module")
def marker() -> Watermark:
    watermark = Watermark("cpu", lambda job_id: bits_of(code_of(job_id, KEY)), thumbnails=True)
    watermark.load(Watch())
    watermark.warm_up(Watch())
    return watermark


@pytest.fixture(scope="module")
def original() -> Output:
    return Output(2, 7, rich(1, (SIDE, SIDE))[None])


@pytest.fixture(scope="module")
def marked(marker: Watermark, original: Output) -> Output:
    (output,) = marker.mark([original], JOB, Watch())
    return output


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def copied(name: str, **options: object) -> Callable[[np.ndarray], np.ndarray]:
    def copy(pixels: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, name, **options)
        return np.array(Image.open(file).convert("RGB"))

    return copy


def scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    side = round(SIDE * factor)
    return lambda pixels: np.array(Image.fromarray(pixels).resize((side, side)))


def cropped(part: float) -> Callable[[np.ndarray], np.ndarray]:
    rim = round(SIDE * (1 - part) / 2)
    return lambda pixels: pixels[rim : SIDE - rim, rim : SIDE - rim].copy()


COPIES = {
    "as it is": (lambda pixels: pixels, 0),
    "JPEG 75": (copied("JPEG", quality=75), 1),
    "WebP 85": (copied("WEBP", quality=85), 1),
    "larger": (scaled(1.5), 0),
    "three quarters of it": (cropped(0.75), 2),
}


def errors(reading: Reading) -> int:
    return (code_in(reading.logits) ^ CODE).bit_count()


def test_nobody_sees_it(original: Output, marked: Output):
    assert psnr(original.frames, marked.frames) > 38
    assert np.abs(original.frames.astype(int) - marked.frames).max() <= 4


def test_everything_else_of_an_output_stays(original: Output, marked: Output):
    assert (marked.index, marked.seed, marked.frames.dtype, marked.frames.shape) == (
        2,
        7,
        np.uint8,
        original.frames.shape,
    )


@pytest.mark.parametrize("copy", COPIES)
def test_it_is_found_in_a_copy(detector: Detector, marked: Output, copy: str):
    change, allowed = COPIES[copy]
    scale = 0.75 if copy.startswith("three") else 1
    reading = detector.read(change(marked.frames[0])[None], round(SIDE * scale))
    assert errors(reading) <= allowed
    assert reading.confidence > GATE


def test_a_picture_without_one_gives_little_confidence_and_another_code(detector: Detector, original: Output):
    reading = detector.read(original.frames, SIDE)
    assert reading.confidence < GATE
    assert errors(reading) > 6


def test_the_thumbnail_has_one_of_its_own_and_keeps_it_when_compressed(detector: Detector, marked: Output):
    assert marked.thumbnail is not None
    assert marked.thumbnail.shape == (256, 256, 3)
    reading = detector.read(copied("WEBP", quality=90)(marked.thumbnail)[None], 256)
    assert errors(reading) <= 1
    assert reading.confidence > GATE


def test_the_same_pixels_and_job_give_the_same_pixels_again_and_another_job_others(marker: Watermark):
    small = Output(0, 7, rich(1, (96, 64))[None])
    one, again, other = (marker.mark([small], job, Watch())[0] for job in (JOB, JOB, "another"))
    assert np.array_equal(one.frames, again.frames)
    assert np.array_equal(one.thumbnail, again.thumbnail)
    assert not np.array_equal(one.frames, other.frames)


@pytest.mark.parametrize("in_16_bits", [False, True], ids=["on a processor", "as on a card"])
def test_a_smooth_picture_keeps_it_too(
    in_16_bits: bool, marker: Watermark, detector: Detector, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watermark_net, "in_16_bits", lambda frames: in_16_bits)
    picture = smooth(104, (512, 512))[160:288, 160:288]
    (marked,) = marker.mark([Output(0, 7, picture[None])], JOB, Watch())
    assert psnr(picture, marked.frames[0]) > 30
    for copy in (lambda pixels: pixels, copied("JPEG", quality=75)):
        assert matches(detector.read(copy(marked.frames[0])[None], 128).logits, [*map(str, range(99)), JOB], KEY)


def test_pictures_that_are_marked_together_look_as_each_marked_alone(marker: Watermark):
    drawn = [draw(seed, (64, 64)) for seed, draw in enumerate((rich, smooth, rich, smooth))]
    outputs = [Output(index, 7, picture[None]) for index, picture in enumerate(drawn)]
    alone = [marker.mark([output], JOB, Watch())[0] for output in outputs]
    for one, other in zip(marker.mark(outputs, JOB, Watch()), alone, strict=True):
        assert one.index == other.index
        assert np.abs(one.frames.astype(int) - other.frames).max() <= 1


def test_every_frame_of_a_smooth_clip_carries_it(marker: Watermark, detector: Detector):
    scene = smooth(103, (1024, 1024))
    clip = np.stack([scene[400:496, 300 + 2 * i : 396 + 2 * i] for i in range(5)])
    (marked,) = marker.mark([Output(0, 7, clip)], JOB, Watch())
    assert matches(detector.read(marked.frames, 96).logits, [*map(str, range(99)), JOB], KEY)
    assert np.abs(clip.astype(int) - marked.frames).max() <= 6


def test_every_frame_of_a_clip_carries_it(marker: Watermark, detector: Detector):
    clip = Output(0, 7, moving(3, (SIDE, 240), frames=5))
    (marked,) = marker.mark([clip], JOB, Watch())
    assert marked.frames.shape == clip.frames.shape
    assert [30 < psnr(*pair) < 44 for pair in zip(clip.frames, marked.frames, strict=True)] == [True] * 5
    assert errors(detector.read(marked.frames[::2], SIDE)) <= 1


@pytest.mark.parametrize("size", [(1, 1), (16, 3), (640, 16)])
def test_no_size_is_too_odd(marker: Watermark, size: tuple[int, int]):
    (marked,) = marker.mark([Output(0, 7, np.full((2, *size, 3), 128, np.uint8))], JOB, Watch())
    assert marked.frames.shape == (2, *size, 3)


def test_who_must_stop_stops_between_two_groups_of_frames(marker: Watermark):
    watch = Watch(on_step=lambda watch: watch.abort(Interrupted()))
    with pytest.raises(Interrupted):
        marker.mark([Output(0, 7, np.zeros((9, 16, 16, 3), np.uint8))], JOB, watch)


def test_time_is_counted(marker: Watermark):
    watch = Watch()
    marker.mark([Output(0, 7, np.zeros((1, 16, 16, 3), np.uint8))], JOB, watch)
    assert watch.timings["watermark"] > 0


# The weights


def test_weights_that_are_not_installed_are_named_with_the_cure(monkeypatch):
    monkeypatch.setattr(watermark_net, "PACKAGE", "no-such-package")
    with pytest.raises(Misconfigured, match=r"requirements-weights\.txt"):
        watermark_net.read_weights(watermark_net.ENCODER, "cpu")


def test_weights_that_were_changed_are_refused(monkeypatch, tmp_path: Path):
    (tmp_path / "imwatermark").mkdir()
    (tmp_path / watermark_net.ENCODER).write_bytes(b"other weights")
    monkeypatch.setattr(watermark_net, "distribution", lambda _: _Installed(tmp_path))
    with pytest.raises(Misconfigured, match="not the known ones"):
        watermark_net.read_weights(watermark_net.ENCODER, "cpu")


class _Installed:
    def __init__(self, root: Path) -> None:
        self._root = root

    def locate_file(self, name: str) -> Path:
        return self._root / name
