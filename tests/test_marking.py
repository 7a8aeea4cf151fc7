"""What a deployment's settings make of its files: texts, prompts, thumbnails and limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.claim import Claim
from workers.delivery.parcel import Parcel
from workers.job import Output, SamplingParams
from workers.kinds import make_encode
from workers.media import PARAMETERS, XMP
from workers.provenance.chain import keys_in
from workers.provenance.credentials import ROOM
from workers.provenance.marks import make_sign, open_watermark
from workers.safety.mark import bits_of, code_of
from workers.settings import Settings

JOB = "b91f0000-0000-4000-8000-000000000001"
NEEDED = {
    "supabase_url": "https://a.supabase.co",
    "supabase_service_key": "key",
    "upstash_redis_rest_url": "https://redis.example",
    "upstash_redis_rest_token": "token",
}


def settings(folder: Path, **values: object) -> Settings:
    return Settings(_env_file=None, **NEEDED, **{"model_root": folder / "models"} | values)


def parcel(limit: int = 1 << 20) -> Parcel:
    params = SamplingParams(
        "image_fast", "image", 96, 64, 1, 25, 6.5, (7,), "unipc", 5.0, "fast", "a red bicycle", "dull"
    )
    output = Output(0, 7, np.full((1, 64, 96, 3), 90, np.uint8))
    metadata = {"model": "wan_2_1_1_3b", "model_hash": "ab" * 32}
    return Parcel(Claim("t", "{}", 1, 0, 1, None), JOB, "user", params, (output,), limit, None, metadata)


def written(folder: Path, **values: object) -> Path:
    (folder / "staged").mkdir(exist_ok=True)
    each = parcel()
    return make_encode(settings(folder, **values))(each.outputs[0], folder / "staged", each).path


def texts(path: Path) -> dict[str, str]:
    with Image.open(path) as picture:
        return dict(picture.text)


def test_a_file_says_how_it_was_made_but_not_from_which_words(tmp_path):
    said = texts(written(tmp_path))
    assert f"Job id: {JOB}" in said[PARAMETERS]
    assert "Model hash: ababababab" in said[PARAMETERS]
    assert "trainedAlgorithmicMedia" in said[XMP]
    assert "bicycle" not in str(said)


def test_a_deployment_may_put_the_words_in(tmp_path):
    lines = texts(written(tmp_path, prompt_in_files=True))[PARAMETERS].splitlines()
    assert lines[:2] == ["a red bicycle", "Negative prompt: dull"]


def test_room_is_left_for_the_signature(tmp_path):
    """A file that just fits its bucket would not fit any more once it is signed."""
    noise = np.random.default_rng(0).integers(0, 255, (1, 64, 96, 3), dtype=np.uint8)
    each = replace(parcel(), outputs=(Output(0, 7, noise),))
    folder = tmp_path / "staged"
    folder.mkdir()
    encode = make_encode(settings(tmp_path))
    size = encode(each.outputs[0], folder, each).path.stat().st_size
    assert encode(each.outputs[0], folder, replace(each, limit=size + ROOM)).path.suffix == ".png"
    assert encode(each.outputs[0], folder, replace(each, limit=size + ROOM - 1)).path.stat().st_size < size


def test_thumbnails_are_signed_where_there_are_any(tmp_path):
    folder = tmp_path / "staged"
    folder.mkdir()
    each, now = parcel(), settings(tmp_path, callback_dialect="objects")
    artifact = make_encode(now)(each.outputs[0], folder, each)
    assert [path.name for path in artifact.files] == ["0.png", "0.thumb.webp"]
    sizes = [path.stat().st_size for path in artifact.files]
    for path in artifact.files:
        make_sign(now)(path)
    assert all(path.stat().st_size > size for path, size in zip(artifact.files, sizes, strict=True))


def test_a_volume_has_one_key_for_all_its_workers(tmp_path):
    now = settings(tmp_path)
    make_sign(now)
    marker = open_watermark(now, "cpu")
    assert marker is not None
    assert marker._bits(JOB) == bits_of(code_of(JOB, keys_in(tmp_path / "provenance").mark))


def test_a_deployment_may_do_without_marks_in_pixels(tmp_path):
    assert open_watermark(settings(tmp_path, watermark=False), "cpu") is None


@pytest.mark.parametrize("given", ["ftp://signer", "signer.example"])
def test_the_address_of_a_signer_must_be_one(tmp_path, given):
    with pytest.raises(ValueError, match="c2pa_signer_url"):
        settings(tmp_path, c2pa_signer_url=given)


def test_its_token_never_prints(tmp_path):
    now = settings(tmp_path, c2pa_signer_url="https://signer.example", c2pa_signer_token="planted")
    assert "planted" not in repr(now)
    assert "planted" in now.secrets
