"""Files are re-opened and measured: what a viewer, a player and a bucket would see of them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from workers import media
from workers.errors import Rejected
from workers.job import Artifact, Output
from workers.media import PARAMETERS, XMP, encode
from workers.readback import MediaError

MIB = 2**20
XMP_PACKET = "<x:xmpmeta xmlns:x='adobe:ns:meta/'>trainedAlgorithmicMedia</x:xmpmeta>"
TEXT = {PARAMETERS: "a lighthouse at dusk, Küste 灯台\nSteps: 15, Seed: 7", XMP: XMP_PACKET}


def grainy(frames: int = 1, size: tuple[int, int] = (96, 64), seed: int = 0) -> np.ndarray:
    """A soft gradient with film grain, moving: as hard to compress as a photograph."""
    width, height = size
    rng = np.random.default_rng(seed)
    slope = np.linspace(40, 200, width)[None, None, :, None] + 4 * np.arange(frames)[:, None, None, None]
    noisy = slope + rng.normal(0, 6, (frames, height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def plain(colour: tuple[int, int, int], frames: int = 1) -> np.ndarray:
    return np.full((frames, 64, 96, 3), colour, dtype=np.uint8)


def encoded(folder: Path, frames: np.ndarray, *, index: int = 0, **changes) -> Artifact:
    options = {"media": "image", "fps": 16, "quality": "fast", "limit": 100 * MIB, "text": {}, "thumbnail": False}
    return encode(Output(index, 7, frames), folder, **options | changes)


def video(folder: Path, frames: np.ndarray, **changes) -> Artifact:
    return encoded(folder, frames, media="video", **changes)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def boxes(path: Path) -> list[str]:
    """Names of an MP4's top-level boxes, in file order."""
    data, names, at = path.read_bytes(), [], 0
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4], "big")
    return names


def test_an_image_is_a_png_with_exactly_its_pixels(tmp_path):
    frames = grainy()
    artifact = encoded(tmp_path, frames, index=3)
    assert artifact == Artifact(3, tmp_path / "3.png", "image/png", size=(96, 64), frames=1, seed=7)
    assert np.array_equal(pixels(artifact.path), frames[0])


def test_a_png_carries_its_texts_where_image_tools_read_them(tmp_path):
    artifact = encoded(tmp_path, grainy(), text=TEXT | {"generator": "ourvidz"})
    with Image.open(artifact.path) as picture:
        assert picture.text == TEXT | {"generator": "ourvidz"}
    assert b"iTXtXML:com.adobe.xmp\0" in artifact.path.read_bytes()


def sizes_in_chain(frames: np.ndarray, folder: Path) -> list[int]:
    def size(encoding) -> int:
        path = folder / f"tried.{encoding.extension}"
        media._write_image(path, frames, encoding.options, text={})
        size = path.stat().st_size
        path.unlink()
        return size

    return [size(encoding) for encoding in media.ENCODINGS["image"]]


@pytest.mark.parametrize(("step", "extension"), [(0, "png"), (1, "png"), (2, "webp"), (3, "webp")])
def test_an_image_above_its_buckets_limit_is_encoded_again_until_it_fits(tmp_path, step, extension):
    frames = grainy(size=(256, 256))
    sizes = sizes_in_chain(frames, tmp_path)
    assert sizes == sorted(sizes, reverse=True)
    artifact = encoded(tmp_path, frames, limit=sizes[step])
    assert artifact.path.stat().st_size == sizes[step]
    assert artifact.content_type == f"image/{artifact.extension}" == f"image/{extension}"
    assert list(tmp_path.iterdir()) == [artifact.path]


def test_only_the_last_resort_loses_pixels(tmp_path):
    frames = grainy(size=(256, 256))
    sizes = sizes_in_chain(frames, tmp_path)
    lossless = encoded(tmp_path, frames, limit=sizes[2])
    assert np.array_equal(pixels(lossless.path), frames[0])
    lossy = encoded(tmp_path, frames, limit=sizes[3])
    assert 0 < np.abs(pixels(lossy.path) - frames[0].astype(int)).mean() < 8


def test_a_webp_carries_its_texts_too(tmp_path):
    frames = grainy(size=(256, 256))
    artifact = encoded(tmp_path, frames, limit=sizes_in_chain(frames, tmp_path)[3] + 1000, text=TEXT)
    assert artifact.extension == "webp"
    with Image.open(artifact.path) as picture:
        comment = picture.getexif().get_ifd(0x8769)[0x9286]
        assert comment == b"UNICODE\0" + TEXT[PARAMETERS].encode("utf-16-be")
        assert picture.info["xmp"].decode() == XMP_PACKET


@pytest.mark.parametrize(("kind", "frames"), [("image", 1), ("video", 5)])
def test_what_fits_in_no_form_is_refused_with_a_sentence_and_leaves_nothing(tmp_path, kind, frames):
    with pytest.raises(Rejected) as caught:
        encoded(tmp_path, grainy(frames), media=kind, limit=10)
    assert caught.value.sentence == f"The {kind} is too large to be stored."
    assert list(tmp_path.iterdir()) == []


def test_a_video_is_h264_in_mp4_of_five_seconds(tmp_path):
    artifact = video(tmp_path, grainy(81))
    assert artifact == Artifact(0, tmp_path / "0.mp4", "video/mp4", size=(96, 64), frames=81, seed=7)
    with av.open(str(artifact.path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.average_rate) == (96, 64, 16)
        assert float(stream.duration * stream.time_base) == 5.0625
        assert sum(1 for _ in container.decode(stream)) == 81


def test_a_video_says_which_colours_it_means(tmp_path):
    with av.open(str(video(tmp_path, grainy(5)).path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)


@pytest.mark.parametrize("colour", [(220, 30, 30), (30, 200, 40), (30, 40, 220), (255, 255, 255), (0, 0, 0)])
def test_a_player_that_believes_the_tags_shows_the_same_colour(tmp_path, colour):
    with av.open(str(video(tmp_path, plain(colour, 5)).path)) as container:
        frame = next(container.decode(video=0))
    y, u, v = (frame.to_ndarray()[rows, :48].mean() for rows in (slice(0, 64), slice(64, 80), slice(80, 96)))
    luma, blue, red = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    shown = np.array([luma + 1.5748 * red, luma - 0.1873 * blue - 0.4681 * red, luma + 1.8556 * blue]) * 255
    assert np.abs(shown - colour).max() < 4


def test_a_video_can_start_before_it_has_arrived(tmp_path):
    names = boxes(video(tmp_path, grainy(5)).path)
    assert names.index("moov") < names.index("mdat")


def test_frames_keep_their_order(tmp_path):
    frames = np.concatenate([plain((level, level, level)) for level in range(20, 240, 20)])
    with av.open(str(video(tmp_path, frames).path)) as container:
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert np.allclose(levels, range(20, 240, 20), atol=4)


@pytest.mark.parametrize(("quality", "effort"), [("fast", b"subme=2 "), ("high", b"subme=7 ")])
def test_the_presets_quality_decides_the_encoders_effort(tmp_path, quality, effort):
    written = video(tmp_path, grainy(3), quality=quality).path.read_bytes()
    assert effort in written
    assert b"crf=18.0" in written


@pytest.mark.parametrize(("step", "crf"), [(1, b"crf=22.0"), (2, b"crf=26.0")])
def test_a_video_above_its_buckets_limit_is_compressed_harder_twice(tmp_path, step, crf):
    frames, limit = grainy(9), 100 * MIB
    for _ in range(step):
        limit = video(tmp_path, frames, limit=limit).path.stat().st_size - 1
    artifact = video(tmp_path, frames, limit=limit)
    assert crf in artifact.path.read_bytes()
    assert artifact.path.stat().st_size <= limit


def test_a_video_carries_its_texts(tmp_path):
    path = video(tmp_path, grainy(5), text=TEXT | {"title": "A lighthouse"}).path
    with av.open(str(path)) as container:
        assert container.metadata["title"] == "A lighthouse"
        assert container.metadata["comment"] == TEXT[PARAMETERS]
    assert boxes(path)[-1] == "uuid"
    assert path.read_bytes().endswith(XMP_PACKET.encode())


def test_the_number_of_encoder_threads_is_not_the_machines(tmp_path):
    """It changes the bytes, and with them what a second worker would deliver."""
    assert b" threads=4 " in video(tmp_path, grainy(2, size=(64, 256))).path.read_bytes()


@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_same_pixels_give_the_same_bytes_in_any_thread(tmp_path, kind):
    frames = grainy(9) if kind == "video" else grainy()
    with ThreadPoolExecutor(4) as pool:
        artifacts = list(pool.map(lambda i: encoded(tmp_path, frames, media=kind, index=i, text=TEXT), range(4)))
    assert len({artifact.path.read_bytes() for artifact in artifacts}) == 1


@pytest.mark.parametrize(
    ("size", "shown"), [((512, 256), (256, 128)), ((96, 160), (96, 160)), ((480, 832), (148, 256))]
)
def test_a_thumbnail_has_a_long_side_of_256_at_most(tmp_path, size, shown):
    thumbnail = encoded(tmp_path, grainy(size=size), index=4, thumbnail=True).thumbnail
    assert thumbnail == tmp_path / "4.thumb.webp"
    with Image.open(thumbnail) as picture:
        assert (picture.format, picture.size) == ("WEBP", shown)


def test_a_videos_thumbnail_is_its_middle_frame_and_keeps_the_mark(tmp_path):
    frames = np.concatenate([plain((0, 0, 0), 4), plain((220, 30, 30)), plain((0, 0, 0), 4)])
    thumbnail = video(tmp_path, frames, text=TEXT, thumbnail=True).thumbnail
    assert np.abs(pixels(thumbnail).mean(axis=(0, 1)) - (220, 30, 30)).max() < 6
    with Image.open(thumbnail) as picture:
        assert picture.info["xmp"].decode() == XMP_PACKET


def test_every_file_is_forced_to_disk(tmp_path, monkeypatch):
    forced = []
    monkeypatch.setattr(os, "fsync", lambda fd: forced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name))
    video(tmp_path, grainy(5), thumbnail=True)
    encoded(tmp_path, grainy(), index=1)
    assert sorted(forced) == ["0.mp4", "0.thumb.webp", "1.png"]


@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_file_that_cannot_be_read_back_is_noticed(tmp_path, monkeypatch, kind):
    def truncated(path: Path, *_arguments, **_options) -> None:
        path.write_bytes(whole[: len(whole) // 2])

    whole = encoded(tmp_path, grainy(5 if kind == "video" else 1), media=kind).path.read_bytes()
    monkeypatch.setattr(media, f"_write_{kind}", truncated)
    with pytest.raises(MediaError):
        encoded(tmp_path, grainy(5 if kind == "video" else 1), media=kind)


def test_lost_frames_are_noticed(tmp_path, monkeypatch):
    write = media._write_video
    monkeypatch.setattr(
        media, "_write_video", lambda path, frames, *rest, **options: write(path, frames[1:], *rest, **options)
    )
    with pytest.raises(MediaError, match="4 frames"):
        video(tmp_path, grainy(5))
