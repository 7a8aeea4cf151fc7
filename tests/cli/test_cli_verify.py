"""`verify` says whether a file is ours, by whatever is left of its marks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from terminal import call

from bench.pictures import rich
from workers import media
from workers.job import Output
from workers.provenance.chain import MARK_KEY, Keys, keys_in
from workers.provenance.credentials import Claims, sign
from workers.provenance.signers import LocalSigner
from workers.provenance.watermark import Watermark
from workers.safety.mark import bits_of, code_of
from workers.safety.mark_text import GENERATOR, SOURCE_TYPE, VERSION, Making, texts
from workers.safety.registry import Entry, Registry
from workers.safety.scorers import fingerprint
from workers.watch import Watch

pytestmark = pytest.mark.pipelines

JOB = "b91f0000-0000-4000-8000-000000000001"
SIDE = 256


class Volume:
    """Keys, a registry of a hundred jobs, a file that was delivered from here, and a small one without a mark in its
    pixels, of which the registry does not know."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.audit = folder, folder / "audit"
        self.audit.mkdir()
        keys_in(folder / "provenance"), keys_in(folder / "others")
        (folder / "provenance" / MARK_KEY).write_text("5a" * 32)  # of a small picture not every mark outlives a copy
        self.keys = keys_in(folder / "provenance")
        frames = marked(self.keys)
        self.file = delivered(folder, 0, frames, self.keys)
        self.small = delivered(folder, 1, rich(4, (64, 64))[None], self.keys)
        registry = Registry(self.audit)
        shown = (fingerprint(frames[0]),)
        registry.add([Entry(JOB, 0, hashlib.sha256(self.file.read_bytes()).hexdigest(), "u", "t", 0.0, "o", shown)])
        registry.add(Entry(f"another-{number}", 0, f"{number:064x}", "u", "t", 0.0) for number in range(99))

    def verify(self, *arguments: object, keys: str = "provenance", audit: str = "audit") -> tuple[int, list[dict]]:
        where = ("--keys", str(self.folder / keys), "--audit", str(self.folder / audit))
        result = call("verify", *map(str, arguments), *where, "--json")
        return result.exit_code, json.loads(result.stdout)

    def one(self, path: Path, **places: str) -> tuple[int, dict]:
        code, (found,) = self.verify(path, **places)
        return code, found


def marked(keys: Keys):
    watermark = Watermark("cpu", lambda job_id: bits_of(code_of(job_id, keys.mark)), thumbnails=False)
    watermark.load(Watch())
    return watermark.mark([Output(0, 7, rich(3, (SIDE, SIDE))[None])], JOB, Watch())[0].frames


def delivered(folder: Path, index: int, frames, keys: Keys) -> Path:
    made = Making(JOB, 7, SIDE, SIDE, 1, 15, 6.0, "unipc", "lustify_sdxl", prompt="a red bicycle")
    said = texts(made, parameters_key=media.PARAMETERS, xmp_key=media.XMP)
    options = {"media": "image", "fps": 16, "quality": "fast", "limit": 1 << 30, "thumbnail": False}
    path = media.encode(Output(index, 7, frames), folder, text=said, **options).path
    sign(path, Claims(GENERATOR, VERSION, SOURCE_TYPE, path.name), LocalSigner(keys.certificates, keys.signing))
    return path


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return Volume(tmp_path_factory.mktemp("volume"))


@pytest.fixture
def copied(volume: Volume, tmp_path: Path) -> Callable[..., Path]:
    """A copy without any text or signature."""

    def copy(name: str = "copy.jpg", **options: object) -> Path:
        with Image.open(volume.file) as picture:
            picture.convert("RGB").save(tmp_path / name, **options)
        return tmp_path / name

    return copy


def test_a_delivered_file_has_every_mark(volume: Volume):
    code, found = volume.one(volume.file)
    assert (code, found["verdict"], found["job"]) == (0, "ours", JOB)
    assert (found["credential"]["state"], found["credential"]["problems"]) == ("trusted", [])
    assert (found["texts"]["source_type"], found["texts"]["job"], found["texts"]["seed"]) == (SOURCE_TYPE, JOB, "7")
    likeliest = found["mark"]["jobs"][0]
    assert (likeliest["job_id"], likeliest["errors"] <= 1) == (JOB, True)
    assert [copy["job"] for copy in found["copies"]] == [JOB]


def test_a_copy_without_texts_is_known_by_its_pixels(volume: Volume, copied):
    code, found = volume.one(copied(quality=85))
    assert (code, found["verdict"]) == (0, "ours")
    assert (found["credential"], found["texts"]["source_type"], found["job"]) == (None, None, None)
    assert found["mark"]["jobs"][0]["job_id"] == JOB
    assert found["copies"][0]["job"] == JOB


def test_without_a_registry_the_mark_still_says_that_it_is_ours(volume: Volume, copied):
    code, found = volume.one(copied(quality=95), audit="nowhere")
    assert (code, found["verdict"], found["mark"]["own"], found["mark"]["jobs"]) == (0, "ours", True, [])


def test_a_foreign_picture_has_nothing(volume: Volume, tmp_path: Path):
    Image.fromarray(rich(11, (96, 96))).save(tmp_path / "foreign.png")
    code, found = volume.one(tmp_path / "foreign.png")
    assert (code, found["verdict"]) == (1, "nothing")
    assert not found["mark"]["own"]
    assert not found["mark"]["jobs"]


def test_a_text_alone_proves_nothing(volume: Volume, tmp_path: Path):
    options = {"xmp": f"<x:xmpmeta><a:DigitalSourceType>{SOURCE_TYPE}</a:DigitalSourceType></x:xmpmeta>".encode()}
    Image.fromarray(rich(12, (96, 96))).save(tmp_path / "said.webp", **options)
    code, found = volume.one(tmp_path / "said.webp")
    assert (code, found["verdict"]) == (1, "says so")


def test_whoever_has_not_our_keys_needs_our_root_to_trust_a_file(volume: Volume, tmp_path: Path):
    (tmp_path / "root.pem").write_text(volume.keys.root)
    assert volume.one(volume.small, keys="others", audit="nowhere")[1]["verdict"] == "says so"
    code, (found,) = volume.verify(volume.small, "--trust", tmp_path / "root.pem", keys="others", audit="nowhere")
    assert (code, found["verdict"]) == (0, "ours")


def test_a_changed_file_is_called_altered(volume: Volume, tmp_path: Path):
    data = bytearray(volume.small.read_bytes())
    data[-20] ^= 1
    (tmp_path / "changed.png").write_bytes(data)
    code, found = volume.one(tmp_path / "changed.png", keys="others", audit="nowhere")
    assert (code, found["verdict"], found["credential"]["state"]) == (1, "altered", "invalid")


@pytest.mark.parametrize(
    "content", [b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(20), b"", b"no picture", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_picture_is_called_unreadable(volume: Volume, tmp_path: Path, content: bytes):
    (tmp_path / "a.png").write_bytes(content)
    code, found = volume.one(tmp_path / "a.png")
    assert (code, found["verdict"]) == (1, "unreadable")


def test_one_stranger_among_files_is_a_problem(volume: Volume, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"")
    code, found = volume.verify(volume.file, tmp_path / "a.png")
    assert code == 1
    assert [each["verdict"] for each in found] == ["ours", "unreadable"]


def test_for_people_it_is_a_few_lines_without_the_prompt(volume: Volume):
    where = ("--keys", str(volume.folder / "provenance"), "--audit", str(volume.audit))
    said = call("verify", str(volume.file), *where).stdout
    assert said.splitlines()[0].endswith("ours")
    assert [line.split()[0] for line in said.splitlines()[1:]] == [
        "credentials",
        "XMP",
        "parameters",
        "watermark",
        "registry",
    ]
    assert "bicycle" not in said


def test_looking_makes_no_keys(volume: Volume, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("PROVENANCE_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("AUDIT_DIR", str(tmp_path / "none either"))
    assert call("verify", str(volume.small), "--json").exit_code == 1
    assert not list(tmp_path.iterdir())
