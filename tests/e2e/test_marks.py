"""Every file that leaves says what it is: signed, described, and without the prompt it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import av
import pytest
from messages import PRESETS
from PIL import Image
from runs import PLANTED, Run

from workers.provenance import credentials
from workers.provenance.chain import Keys, keys_in
from workers.safety.mark_text import GENERATOR, SOURCE_TYPE

pytestmark = pytest.mark.ring2

NEWEST = ("the victim", "a clip", "seeded image", "seeded images", "seeded clip")


@pytest.fixture(scope="module")
def keys(july: Run, models: Path) -> Keys:
    """Those that the workers of the first life made at their start."""
    folder = models.parent / "provenance"
    assert folder.is_dir()
    return keys_in(folder)


def files(run: Run, label: str, folder: Path) -> Iterator[tuple[Path, bytes]]:
    found = run.files(label)
    assert found
    for name, content in found.items():
        path = folder / name.replace("/", "-")
        path.write_bytes(content)
        yield path, content


def parameters(path: Path) -> str:
    if path.suffix == ".mp4":
        with av.open(str(path)) as film:
            return str(film.metadata["comment"])
    with Image.open(path) as picture:
        if path.suffix == ".png":
            return str(picture.text["parameters"])
        return picture.getexif().get_ifd(0x8769)[0x9286].removeprefix(b"UNICODE\0").decode("utf-16-be")


@pytest.mark.parametrize(
    ("life", "label"), [("july", f"type {name}") for name in PRESETS] + [("newest", label) for label in NEWEST]
)
def test_every_file_of_every_type_and_dialect_is_marked(request, tmp_path, keys, life: str, label: str):
    run = request.getfixturevalue(life)
    for path, content in files(run, label, tmp_path):
        found = credentials.read(path, keys.root)
        assert found is not None
        assert (found.state, found.generator, found.source_type) == ("trusted", GENERATOR, SOURCE_TYPE)
        assert SOURCE_TYPE.encode() in content
        assert f"<gen:JobId>{run.jobs[label]}</gen:JobId>".encode() in content
        assert f"Job id: {run.jobs[label]}" in parameters(path)


def test_thumbnails_are_among_them(newest: Run):
    assert len([name for name in newest.files("the victim") if name.endswith(".thumb.webp")]) == 3


def test_no_file_holds_the_prompt(july: Run):
    for name in PRESETS:
        for content in july.files(f"type {name}").values():
            assert PLANTED.encode() not in content


def test_what_the_marks_cost_is_in_the_callback(july: Run):
    for name in PRESETS:
        timings = july.body(f"type {name}")["metadata"]["timings"]
        assert timings.keys() >= {"watermark", "sign"}


def test_the_file_says_the_seed_that_the_callback_says(july: Run, tmp_path: Path):
    said = july.body("type sdxl_image_fast")["metadata"]["seeds"]
    texts = [parameters(path) for path, _ in files(july, "type sdxl_image_fast", tmp_path)]
    assert [f"Seed: {seed}, " in text for seed, text in zip(said, texts, strict=True)] == [True] * 6


def test_pictures_still_open_everywhere(july: Run):
    content = next(iter(july.files("type sdxl_image_fast").values()))
    with Image.open(BytesIO(content)) as picture:
        picture.verify()
