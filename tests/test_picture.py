"""A foreign file becomes plain pixels in a process of its own, or is refused; nothing it holds can do more."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from workers.errors import Rejected
from workers.references import picture as module
from workers.references.decoder import LIMITS, MAX_PIXELS
from workers.references.picture import decode

RED, BLUE = (200, 30, 30), (30, 30, 200)


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def plain(form: str = "PNG", mode: str = "RGB", **options) -> bytes:
    return saved(Image.new("RGB", (32, 16), RED).convert(mode), form, **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes) -> bytes:
    """One bit a pixel."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_bomb(width: int, height: int) -> bytes:
    """A few kilobytes that claim to be so many pixels, all of them there."""
    squeezed = zlib.compressobj(9)
    row = bytes(1 + width // 8)
    data = b"".join(squeezed.compress(row * 100) for _ in range(height // 100)) + squeezed.flush()
    return png(width, height, data)


def png_with(kind: bytes, data: bytes) -> bytes:
    """A small picture with one more chunk before its pixels."""
    whole = plain()
    at = whole.index(b"IDAT") - 4
    return whole[:at] + chunk(kind, data) + whole[at:]


def several(form: str) -> bytes:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE))
    return saved(first, form, save_all=True, append_images=[second])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_each_permitted_form_is_decoded(form, mode):
    picture = decode(plain(form, mode))
    expected = Image.new("RGB", (32, 16), RED).convert(mode).convert("RGB").getpixel((0, 0))
    assert picture.size == (32, 16)
    assert np.allclose(np.frombuffer(picture.pixels, np.uint8).reshape(16, 32, 3), expected, atol=6)


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(mode):
    image = Image.new("RGB", (32, 16), RED)
    data = saved(Image.new("I;16", (32, 16), 9) if mode == "I;16" else image.convert(mode), "PNG")
    assert len(decode(data).pixels) == 32 * 16 * 3


@pytest.mark.parametrize("grey", [0, 60, 128, 255])
def test_of_sixteen_bits_the_upper_eight_are_seen(grey):
    data = saved(Image.new("I;16", (8, 8), grey * 257), "PNG")
    assert set(decode(data).pixels) == {grey}


def test_a_picture_on_its_side_is_set_upright():
    image, exif = Image.new("RGB", (32, 16), RED), Image.Exif()
    image.paste(BLUE, (0, 0, 16, 16))
    exif[0x0112] = 6  # the top of the scene lies at the right
    picture = decode(saved(image, "JPEG", exif=exif, quality=100, subsampling=0))
    assert picture.size == (16, 32)
    assert np.allclose(list(picture.pixels[:3]), BLUE, atol=12)


def test_nothing_but_pixels_comes_through():
    text = PngInfo()
    text.add_text("Comment", "taken at home")
    with_text = decode(plain(pnginfo=text, exif=Image.Exif(), icc_profile=b"profile"))
    assert with_text.pixels == decode(plain()).pixels


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "PCX", "PDF", "EPS"])
def test_another_form_is_refused_by_name(form):
    with pytest.raises(Rejected, match="must be a PNG, JPEG or WebP"):
        decode(plain(form))


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 100, SVG, b"%!PS\n(r) file", b"GIF89a", b"PK\x03\x04", random.Random(0).randbytes(4096)]
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(Rejected):
        decode(data)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "MPO"])
def test_more_than_one_picture_is_refused(form):
    with pytest.raises(Rejected, match="single picture"):
        decode(several(form))


def test_the_largest_picture_passes_and_one_row_more_does_not():
    assert decode(png_bomb(5000, MAX_PIXELS // 5000)).size == (5000, 5000)
    with pytest.raises(Rejected, match="25 million pixels"):
        decode(png_bomb(5000, MAX_PIXELS // 5000 + 100))


@pytest.mark.parametrize(("width", "height"), [(6000, 6000), (50_000, 50_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_announcement(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
    with pytest.raises(Rejected):
        decode(data)


def test_a_bomb_that_is_unpacked_when_it_is_opened_is_refused():
    sides = struct.pack("<I", 16_382 | 16_382 << 14)  # WebP without loss, the largest it can be
    body = b"WEBPVP8L" + struct.pack("<I", 106) + b"\x2f" + sides + bytes(101)
    with pytest.raises(Rejected):
        decode(b"RIFF" + struct.pack("<I", len(body)) + body)


@pytest.mark.parametrize("kind", [b"iTXt", b"zTXt", b"iCCP"])
def test_a_bomb_among_the_metadata_is_not_unpacked(kind):
    squeezed = zlib.compress(bytes(200_000_000), 9)
    head = {b"iTXt": b"k\0\1\0\0\0", b"zTXt": b"k\0\0", b"iCCP": b"k\0\0"}[kind]
    began = time.monotonic()
    with pytest.raises(Rejected):
        decode(png_with(kind, head + squeezed))
    assert time.monotonic() - began < module.PATIENCE


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_torn_file_is_refused(form):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = saved(noise, form)
    with pytest.raises(Rejected):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_damage_anywhere_is_refused_or_harmless(form):
    dice, data = np.random.default_rng(2), plain(form)
    for _ in range(8):
        damaged = bytearray(data)
        for at in dice.integers(0, len(data), 3):
            damaged[at] = dice.integers(0, 256)
        with contextlib.suppress(Rejected):
            assert decode(bytes(damaged)).pixels


def children() -> set[str]:
    """The processes that this one has started and not yet collected."""
    return {pid for thread in Path("/proc/self/task").iterdir() for pid in (thread / "children").read_text().split()}


def decoder_that(does: str, tmp_path, monkeypatch) -> None:
    """In place of a decoder that a file has taken over."""
    script = tmp_path / "decoder.py"
    script.write_text(f"import json, os, sys, time\nfrom pathlib import Path\n{does}\n")
    monkeypatch.setattr(module, "_DECODER", script)


@pytest.mark.parametrize(
    "does",
    [
        "os.abort()",
        "sys.exit(3)",
        "pass",
        "print('nonsense')",
        "print('2 2')",
        "print('0 0')",
        "print('-1 -4', 'x' * 11, sep=chr(10))",
        "print('2 2', 'x' * 12, sep=chr(10))",
        "print('9' * 5000)",
    ],
)
def test_a_decoder_that_lies_or_dies_is_not_believed(does, tmp_path, monkeypatch):
    decoder_that(does, tmp_path, monkeypatch)
    with pytest.raises(Rejected, match="could not be read"):
        decode(plain())


def test_a_decoder_that_hangs_is_killed(tmp_path, monkeypatch):
    decoder_that("time.sleep(600)", tmp_path, monkeypatch)
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    before = children()
    with pytest.raises(Rejected):
        decode(plain())
    assert children() <= before


def test_the_decoder_is_given_no_secret(tmp_path, monkeypatch):
    decoder_that("Path(__file__).with_name('env').write_text(json.dumps(dict(os.environ)))", tmp_path, monkeypatch)
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "planted-key")
    with pytest.raises(Rejected):
        decode(plain())
    assert "planted-key" not in (tmp_path / "env").read_text()


def test_the_decoder_cannot_outgrow_its_limits():
    code = "import resource as r; from workers.references.decoder import *; main(); "
    code += "print([r.getrlimit(w) for w in LIMITS])"
    done = subprocess.run([sys.executable, "-c", code], input=plain(), capture_output=True, check=True)
    assert done.stdout.endswith(str([(most, most) for most in LIMITS.values()]).encode() + b"\n")
