"""Decodes the picture on standard input; `workers.picture` runs this file as a process of its own.

It writes a line, "WIDTH HEIGHT" or why it refuses, then the pixels as RGB. A file that takes it over, bursts its
limits or crashes it finds no secret, no second process and nothing to write to.
"""

from __future__ import annotations

import resource
import sys
import warnings

MAX_PIXELS = 25_000_000
FORMATS = ("PNG", "JPEG", "WEBP")
LIMITS = {
    resource.RLIMIT_AS: 2**30,
    resource.RLIMIT_CPU: 10,
    resource.RLIMIT_FSIZE: 3 * MAX_PIXELS + 1000,
    resource.RLIMIT_CORE: 0,
}
"""Bytes and seconds."""


def main() -> None:
    for what, most in LIMITS.items():
        resource.setrlimit(what, (most, most))
    headline, pixels = _decoded(sys.stdin.buffer.read())
    sys.stdout.buffer.write(headline.encode() + b"\n" + pixels)


def _decoded(data: bytes) -> tuple[str, bytes]:
    """The line, and the pixels if any. Whatever else is wrong with the data ends the process."""
    import io

    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if getattr(image, "n_frames", 1) != 1:
                return "frames", b""
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return "pixels", b""
    except UnidentifiedImageError:
        return "format", b""
    return f"{upright.width} {upright.height}", upright.tobytes()


if __name__ == "__main__":
    main()
