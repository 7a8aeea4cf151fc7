"""A foreign clip becomes frames of the size and pace that a job wants, in a process of its own, or is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.drawn import animated, clip, png, turned
from workers.errors import Rejected
from workers.references.picture import decode_clip, is_clip


def frames(data: bytes, count: int = 81, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    made = decode_clip(data, count, size)
    assert made.size == size
    return np.frombuffer(made.pixels, np.uint8).reshape(made.frames, size[1], size[0], 3)


def reds(pixels: np.ndarray) -> np.ndarray:
    """Where a frame is red, from 0 to 1 of its pixels."""
    return (pixels[..., 0] > pixels[..., 2]).mean(axis=(1, 2))


@pytest.mark.parametrize("form", ["mp4", "webm"])
def test_each_permitted_form_is_decoded_in_order(form):
    shares = reds(frames(clip(16, form=form), size=(64, 48)))
    assert len(shares) == 16
    assert (np.diff(shares) > 0).all()
    assert shares[-1] > 0.95


@pytest.mark.parametrize(("fps", "count"), [(8, 23), (24, 8)])
def test_frames_come_at_the_pace_of_our_videos(fps, count):
    assert len(frames(clip(12, fps))) == count


def test_a_clip_fills_the_size_and_no_more_frames_are_made_than_are_wanted():
    *_, half = made = frames(clip(12, size=(128, 48)), count=6, size=(48, 48))
    assert len(made) == 6
    assert reds(half[None])[0] == pytest.approx(0.5, abs=0.05), "the bar's middle is the picture's"


def test_a_clip_on_its_side_is_set_upright():
    upright = frames(turned(clip(4)), size=(48, 64))[1]
    assert reds(upright[None, :24])[0] > 0.9, "what began at the left begins at the top"
    assert reds(upright[None, -24:])[0] < 0.1


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (clip(2, size=(2048, 1440)), "1920"),
        (clip(140, fps=2), "a minute"),
        (clip()[:400], "could not be read"),
        (b"\x1aE\xdf\xa3" + bytes(500), "could not be read"),
        (b"\0\0\0\x20ftypisom" + bytes(500), "could not be read"),
    ],
)
def test_what_is_too_large_too_long_or_torn_is_refused_with_a_sentence(data, sentence):
    with pytest.raises(Rejected, match=sentence):
        decode_clip(data, 81, (32, 32))


def test_clips_are_told_from_pictures_by_their_first_bytes():
    assert is_clip(clip())
    assert is_clip(clip(form="webm"))
    assert not any(
        map(is_clip, (png(), png(form="JPEG"), png(form="WEBP"), animated("GIF"), b"", b"\0\0\0\x20ftypavif"))
    )
