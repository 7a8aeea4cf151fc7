"""`models tiny`, `models check` and `models calibrate`: a volume of weights, real or small."""

from __future__ import annotations

from dataclasses import replace

import pytest
from terminal import call, call_json

from workers.cli import small
from workers.job import Preset, Turbo
from workers.resolve import scaled
from workers.tables import load_models, load_presets, size_scale
from workers.volume import curve_for

pytestmark = pytest.mark.ring2


def files(volume):
    return {path: path.stat().st_mtime_ns for path in volume.rglob("*") if path.is_file()}


def size_on(volume, preset: Preset):
    return scaled(preset.size, size_scale(volume, preset.kind))


def test_small_models_lie_where_real_ones_would_and_pass_the_check(small_volume):
    result = call("models", "check", str(small_volume))
    assert result.exit_code == 0, result.stderr
    for name in ("lustifySDXLNSFWSFW_v20.safetensors", "Wan2.1_VAE.pth", "google/umt5-xxl/tokenizer.json"):
        assert name in result.stdout
    assert "snapshots/" in result.stdout


def test_the_manifest_shrinks_sdxl_to_64_and_wan_to_48_by_80(small_volume):
    presets = load_presets()
    assert size_on(small_volume, presets["sdxl_image_fast"]) == (64, 64)
    assert size_on(small_volume, presets["video_high"]) == (48, 80)


def test_trained_models_are_copied_and_the_others_made_of_random_numbers(small_volume, tmp_path, monkeypatch):
    checkpoint = next(small_volume.glob("sdxl-*/*.safetensors")).relative_to(small_volume)
    trained = (small_volume / checkpoint).read_bytes()
    assert trained == (small.TOYS / checkpoint).read_bytes()
    monkeypatch.setattr(small, "TOYS", tmp_path / "nothing")
    small.write_volume(tmp_path / "random")
    assert size_on(tmp_path / "random", load_presets()["sdxl_image_fast"]) == (128, 128)
    assert (tmp_path / "random" / checkpoint).read_bytes() != trained


def test_without_a_manifest_sizes_stay(tmp_path):
    assert size_on(tmp_path, load_presets()["video_high"]) == (480, 832)


def test_writing_again_changes_nothing(small_volume):
    before = files(small_volume)
    assert "nothing new" in call("models", "tiny", str(small_volume)).stdout
    assert files(small_volume) == before


def test_force_writes_the_same_bytes_again(small_copy):
    checkpoint = next(small_copy.glob("sdxl-*/*.safetensors"))
    written = checkpoint.read_bytes()
    checkpoint.write_bytes(b"torn")
    assert call("models", "check", str(small_copy)).exit_code == 1
    assert call("models", "tiny", str(small_copy), "--force").exit_code == 0
    assert checkpoint.read_bytes() == written


def test_an_interrupted_writing_is_completed_by_the_next(small_copy):
    before = sorted(path for path in small_copy.iterdir())
    next(small_copy.glob("wan*")).rename(small_copy / ".tiny")
    assert call("models", "tiny", str(small_copy)).exit_code == 0
    assert sorted(small_copy.iterdir()) == before


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_weights_of_other_origin_are_never_touched(tmp_path, options):
    real = tmp_path / "sdxl-lustify" / "lustifySDXLNSFWSFW_v20.safetensors"
    real.parent.mkdir()
    real.write_bytes(b"seven gigabytes")
    result = call("models", "tiny", str(tmp_path), *options)
    assert result.exit_code == 1
    assert "of other origin" in result.stderr
    assert list(files(tmp_path)) == [real]


def test_every_torn_or_missing_file_is_named_at_once(small_copy):
    torn = next(small_copy.glob("sdxl-*/*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:1000])
    (small_copy / "wan2.1-t2v-1.3b" / "Wan2.1_VAE.pth").write_bytes(b"torn")
    next(small_copy.rglob("models--Qwen--Qwen2.5-7B-Instruct/snapshots/*/model.safetensors")).unlink()
    result = call("models", "check", str(small_copy))
    assert result.exit_code == 1
    for part in (torn.name, "Wan2.1_VAE.pth", "model.safetensors"):
        assert f"{part} is not" in result.stderr


def test_scripts_read_the_same_as_json(small_volume):
    report = call_json("models", "check", str(small_volume))
    assert report["scale"]["sdxl"] == 0.0625
    assert [model["model"] for model in report["models"]] == ["sdxl", "wan", "qwen", "adapter", "vace"]
    assert all(model["bytes"] > 0 and not model["problems"] for model in report["models"])


def test_a_clip_of_the_model_at_hand_becomes_the_curve_of_its_magnitudes(small_copy, monkeypatch):
    short = {"video_fast": replace(load_presets()["video_fast"], frames=5, steps=3)}
    monkeypatch.setattr("workers.tables.load_presets", lambda: short)
    result = call("models", "calibrate", str(small_copy))
    assert result.exit_code == 0, result.output
    assert "3 steps" in result.stdout
    turbo = Turbo(on=True, reuse=0.12, reuse_by="magnitude")
    found = curve_for([replace(short["video_fast"], turbo=turbo)], small_copy, load_models())
    assert found is not None
    assert len(found.times) == 3


def test_a_type_that_makes_no_clips_has_no_curve(small_copy):
    result = call("models", "calibrate", str(small_copy), "--type", "image_fast")
    assert result.exit_code == 2
    assert "no clips" in result.output
