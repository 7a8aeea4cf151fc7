"""Pixels become files: PNG, WebP or MP4 within a bucket's limit, with their texts, and a thumbnail."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.errors import Rejected
from workers.job import Artifact, Media, Output
from workers.readback import compare

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.PngImagePlugin import PngInfo

    Frames = NDArray[np.uint8]

PARAMETERS = "parameters"
"""Key of the generation text that image tools read back."""
XMP = "XML:com.adobe.xmp"
"""Key of an XMP packet: a text chunk in PNG, a chunk of its own in WebP, a box in MP4."""

THUMBNAIL_SIDE = 256
THUMBNAIL_QUALITY = 90  # at 80 one bit in sixteen of a mark is lost
PRESETS = {"fast": "veryfast", "high": "medium"}
ENCODER_THREADS = 4  # x264 writes other bytes for another number of threads: never the machine's own
BT709 = 1
_IHDR_END = 33
"""Bytes of a PNG up to where texts may stand."""
_EXIF, _USER_COMMENT = 0x8769, 0x9286
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


@dataclass(frozen=True, slots=True)
class _Encoding:
    extension: str
    content_type: str
    options: Mapping[str, Any]


ENCODINGS: Mapping[Media, tuple[_Encoding, ...]] = {
    "image": (
        _Encoding("png", "image/png", {"compression_level": "1"}),
        _Encoding("png", "image/png", {"compression_level": "9"}),
        _Encoding("webp", "image/webp", {"lossless": True}),
        _Encoding("webp", "image/webp", {"quality": 95}),
    ),
    "video": tuple(_Encoding("mp4", "video/mp4", {"crf": str(crf)}) for crf in (18, 22, 26)),
}
"""What is tried in turn until a file fits its bucket."""


def encode(
    output: Output,
    folder: Path,
    *,
    media: Media,
    fps: int,
    quality: str,
    limit: int,
    text: Mapping[str, str],
    thumbnail: bool,
) -> Artifact:
    """Write one asset into `folder` as `{index}.{extension}`, at most `limit` bytes long, and force it to disk.

    Raises `Rejected` where nothing fits, `MediaError` where the file cannot be read back, `OSError` of the disk.
    """
    write = partial(_write_video, fps=fps, preset=PRESETS[quality]) if media == "video" else _write_image
    path, encoding = _fitting(output, folder, media, limit, partial(write, text=text))
    compare(path, output.frames, media)
    _flush(path)
    return Artifact(
        index=output.index,
        path=path,
        content_type=encoding.content_type,
        size=(output.frames.shape[2], output.frames.shape[1]),
        frames=len(output.frames),
        seed=output.seed,
        thumbnail=_write_thumbnail(output, folder, text) if thumbnail else None,
    )


def _fitting(
    output: Output, folder: Path, media: Media, limit: int, write: Callable[[Path, Frames, Mapping[str, Any]], None]
) -> tuple[Path, _Encoding]:
    for encoding in ENCODINGS[media]:
        path = folder / f"{output.index}.{encoding.extension}"
        write(path, output.frames, encoding.options)
        if path.stat().st_size <= limit:
            return path, encoding
        path.unlink()
    raise Rejected(f"The {media} is too large to be stored.", code="failed")


def _write_image(path: Path, frames: Frames, options: Mapping[str, Any], *, text: Mapping[str, str]) -> None:
    from PIL import Image

    if path.suffix == ".png":
        path.write_bytes(_png(frames[0], options, text))
    else:
        Image.fromarray(frames[0]).save(path, **options, **_webp_texts(text))


def _png(pixels: NDArray[np.uint8], options: Mapping[str, str], text: Mapping[str, str]) -> bytes:
    """libav chooses a filter for every line in a third of the time that Pillow takes, but knows of no texts."""
    import av
    from PIL.PngImagePlugin import putchunk

    context = av.CodecContext.create("png", "w")
    context.height, context.width = pixels.shape[:2]
    context.pix_fmt, context.thread_count = "rgb24", 1
    context.time_base = context.sample_aspect_ratio = Fraction(1)
    context.options = {"pred": "mixed", **options}
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    coded = b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))
    file = io.BytesIO()
    file.write(coded[:_IHDR_END])
    for kind, data, *_ in _png_texts(text).chunks:
        putchunk(file, kind, data)
    file.write(coded[_IHDR_END:])
    return file.getvalue()


def _write_thumbnail(output: Output, folder: Path, text: Mapping[str, str]) -> Path:
    """The middle frame, its long side 256 px. It carries the same texts: a mark must not get lost here."""
    from PIL import Image

    picture = Image.fromarray(output.frames[len(output.frames) // 2] if output.thumbnail is None else output.thumbnail)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    path = folder / f"{output.index}.thumb.webp"
    picture.save(path, quality=THUMBNAIL_QUALITY, **_webp_texts(text))
    _flush(path)
    return path


def _png_texts(text: Mapping[str, str]) -> PngInfo:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in text.items():
        add = info.add_itxt if key == XMP else info.add_text
        add(key, value)
    return info


def _webp_texts(text: Mapping[str, str]) -> dict[str, Any]:
    """WebP has no text chunks: the generation text goes where cameras put a comment."""
    from PIL import Image

    texts: dict[str, Any] = {}
    if PARAMETERS in text:
        exif = Image.Exif()
        exif.get_ifd(_EXIF)[_USER_COMMENT] = b"UNICODE\0" + text[PARAMETERS].encode("utf-16-be")
        texts["exif"] = exif
    if XMP in text:
        texts["xmp"] = text[XMP].encode()
    return texts


def _write_video(
    path: Path, frames: Frames, options: Mapping[str, Any], *, text: Mapping[str, str], fps: int, preset: str
) -> None:
    """H.264 in MP4 with the index in front. The index is moved by re-opening the file, so it must have a path."""
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata.update(_tags(text))
        stream = container.add_stream("libx264", rate=fps, options={**options, "preset": preset})
        _describe(stream, frames)
        reformatter = av.video.reformatter.VideoReformatter()
        for i, pixels in enumerate(frames):
            frame = reformatter.reformat(
                av.VideoFrame.from_ndarray(pixels, format="rgb24"),
                format="yuv420p",
                dst_colorspace=av.video.reformatter.Colorspace.ITU709,
                dst_color_range=av.video.reformatter.ColorRange.MPEG,
            )
            frame.pts, frame.time_base = i, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if XMP in text:
        _append_xmp(path, text[XMP].encode())


def _describe(stream: Any, frames: Frames) -> None:
    """Size and colours; untagged video is shown in other colours by every second player."""
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.thread_count = ENCODER_THREADS
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = 1  # 16–235, which is what video is


def _tags(text: Mapping[str, str]) -> dict[str, str]:
    """MP4 keeps these two tags only; the generation text is the comment where none is given."""
    tags = {"title": text.get("title"), "comment": text.get("comment", text.get(PARAMETERS))}
    return {key: value for key, value in tags.items() if value}


def _append_xmp(path: Path, packet: bytes) -> None:
    """A top-level `uuid` box, where readers of XMP look for it; players skip it."""
    with path.open("ab") as file:
        file.write((24 + len(packet)).to_bytes(4, "big") + b"uuid" + _XMP_BOX + packet)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
