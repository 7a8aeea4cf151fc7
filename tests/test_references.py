"""A job's references are brought in from the user's own folder of our storage, or the job hears why not."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from tests.double import OTHER, USER, upload
from tests.drawn import animated, bomb, clip, halves, png
from workers.errors import Rejected, Unreachable
from workers.job import Reference
from workers.local.stack import LocalStack
from workers.references import loading as module
from workers.references.loading import References
from workers.references.places import ELSEWHERE

CLIP = "video_fast"
CONTENT = {"mp4": "video/mp4"}


class Frames:
    frames, width, height = 5, 32, 48


@pytest.fixture
def bringer(stack: LocalStack):
    made = References(stack.supabase.url, stack.double.keys.service, frozenset())
    yield made
    made.close()


@pytest.fixture
def one(bringer: References):
    """What one address brings in, for a picture or for one that may be a clip."""

    def bring(url: str, clip: Frames | None = None):
        return bringer.collect([Reference("reference_image_url", url)], USER, clip)["reference_image_url"]

    return bring


def stored(api: httpx.Client, data: bytes, name: str = "a.png", bucket: str = "workspace-temp") -> str:
    """Uploaded under a content type that its bucket takes, whatever it is."""
    answer = upload(api, f"{bucket}/{USER}/{name}", data, CONTENT.get(name.rpartition(".")[2], "image/png"))
    assert answer.is_success, answer.text
    return f"{bucket}/{USER}/{name}"


def signed(stack: LocalStack, api: httpx.Client, place: str) -> str:
    answer = api.post(f"/storage/v1/object/sign/{place}", json={"expiresIn": 60}).json()
    return f"{stack.supabase.url}/storage/v1{quote(answer['signedURL'], safe='/?=()')}"  # as the browser's client does


def test_a_picture_is_brought_in_by_its_path_with_its_hash(one, api):
    picture = one(stored(api, png()))
    assert (picture.size, picture.pixels) == ((96, 64), halves().tobytes())
    assert picture.sha256 == hashlib.sha256(png()).hexdigest()


def test_uploads_need_no_bucket_in_their_path(one, api):
    stored(api, png(), bucket="reference_images")
    assert one(f"{USER}/a.png").size == (96, 64)


def test_a_signed_address_is_enough_also_when_its_token_has_run_out(one, api, stack):
    url = signed(stack, api, stored(api, png(), "a b (1).png"))
    assert one(url).size == (96, 64)
    assert one(url.partition("?")[0] + "?token=old").size == (96, 64)


def test_a_clip_is_brought_in_where_one_is_wanted(one, api):
    place = stored(api, clip(), "c.mp4", CLIP)
    made = one(place, Frames())
    assert (made.frames, made.size) == (5, (32, 48))
    with pytest.raises(Rejected, match="PNG, JPEG or WebP"):
        one(place)


def test_where_a_clip_may_be_a_picture_may_be_too(one, api):
    assert one(stored(api, png()), Frames()).frames == 1


@pytest.mark.parametrize(
    "url",
    [
        f"workspace-temp/{OTHER}/a.png",
        "https://elsewhere.example/a.png",
        "http://169.254.169.254/latest/meta-data",
        "data:image/png;base64,iVBORw0KGgo=",
        "file:///etc/passwd",
        "",
    ],
)
def test_what_is_not_the_users_own_is_refused(one, api, url):
    upload(api, f"workspace-temp/{OTHER}/a.png", png())
    with pytest.raises(Rejected) as refused:
        one(url)
    assert (refused.value.sentence, refused.value.field) == (ELSEWHERE, "reference_image_url")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (animated("GIF"), "PNG, JPEG or WebP"),
        (animated("PNG"), "single picture"),
        (animated("WEBP"), "single picture"),
        (bomb(), "25 million pixels"),
        (b"no picture at all", "PNG, JPEG or WebP"),
    ],
    ids=["gif", "apng", "webp", "bomb", "text"],
)
def test_what_is_no_single_picture_is_refused_with_a_sentence(one, api, data, sentence):
    with pytest.raises(Rejected, match=sentence):
        one(stored(api, data))


def test_what_is_not_there_is_refused(one):
    with pytest.raises(Rejected, match="could not be fetched"):
        one(f"workspace-temp/{USER}/missing.png")


@pytest.mark.parametrize("may_be_clip", [False, True])
def test_what_is_too_large_is_refused(one, api, monkeypatch, may_be_clip):
    monkeypatch.setattr(module, "PICTURE_BYTES", 100)
    with pytest.raises(Rejected, match="larger than"):
        one(stored(api, png()), Frames() if may_be_clip else None)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "error", "status": 503},
        {"kind": "error", "status": 429},
        {"kind": "lost_request"},
        {"kind": "lost_reply"},
    ],
    ids=str,
)
def test_what_may_pass_can_be_tried_again(one, api, stack, fault):
    place = stored(api, png())
    stack.double_faults.add(**fault)
    with pytest.raises(Unreachable) as lost:
        one(place)
    assert USER not in str(lost.value)


def test_a_storage_that_hangs_is_given_up(stack, api, monkeypatch):
    monkeypatch.setattr(module, "TIME_LIMIT", 0.3)
    place = stored(api, png())
    bringer = References(stack.supabase.url, stack.double.keys.service, frozenset())
    stack.double_faults.add("hang", seconds=5.0, count=1)
    with pytest.raises(Unreachable):
        bringer.collect([Reference("first_frame", place)], USER, None)
    bringer.close()


def test_an_answer_that_leads_elsewhere_is_not_followed(one, api, stack):
    place = stored(api, png())
    stack.double_faults.add("error", status=302)
    with pytest.raises(Rejected, match="could not be fetched"):
        one(place)


def test_what_is_transparent_becomes_white(one, api):
    pixels = np.dstack([halves(), np.zeros((64, 96), np.uint8)])
    assert one(stored(api, png(pixels))).pixels == b"\xff" * 96 * 64 * 3
