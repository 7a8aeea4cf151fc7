"""A job and its preset become sampling parameters."""

import json

import pytest

from tests.test_payload import JOB, message
from workers.errors import Rejected
from workers.payload import parse
from workers.resolve import default_seed, resolve
from workers.settings import CONFIG_DIR
from workers.tables import load_presets

PRESETS = load_presets()
TEN = {
    "sdxl_image_fast": ("sdxl", "image", 1024, 1024, 1, 15, 6.0, None, False, 6, 5),
    "sdxl_image_high": ("sdxl", "image", 1024, 1024, 1, 25, 7.5, None, False, 6, 10),
    "image_fast": ("wan", "image", 480, 832, 1, 25, 6.5, 5, False, 1, 5),
    "image_high": ("wan", "image", 480, 832, 1, 50, 7.5, 5, False, 1, 10),
    "video_fast": ("wan", "video", 480, 832, 81, 25, 6.5, 5, False, 1, 50),
    "video_high": ("wan", "video", 480, 832, 81, 50, 7.5, 5, False, 1, 200),
    "image7b_fast_enhanced": ("wan", "image", 480, 832, 1, 25, 6.5, 5, True, 1, 20),
    "image7b_high_enhanced": ("wan", "image", 480, 832, 1, 50, 7.5, 5, True, 1, 20),
    "video7b_fast_enhanced": ("wan", "video", 480, 832, 81, 25, 6.5, 5, True, 1, 100),
    "video7b_high_enhanced": ("wan", "video", 480, 832, 81, 50, 7.5, 5, True, 1, 100),
}


def job(job_type: str = "video_fast", **config: object):
    payload = {"id": JOB, "type": job_type, "user_id": JOB, "prompt": "a red bicycle", "config": config}
    return parse(json.dumps(payload))


def params(job_type: str = "video_fast", scale: float = 1.0, **config: object):
    return resolve(job(job_type, **config), PRESETS[job_type], scale)


@pytest.mark.parametrize("job_type", TEN)
def test_without_a_manifest_the_ten_types_ask_for_the_sizes_of_the_contract(job_type):
    kind, media, width, height, frames, steps, guidance, shift, enhance, outputs, mib = TEN[job_type]
    preset, asked = PRESETS[job_type], params(job_type)
    assert (preset.kind, preset.enhance, preset.bucket_limit) == (kind, enhance, mib * 2**20)
    assert (asked.media, asked.width, asked.height, asked.frames) == (media, width, height, frames)
    assert (asked.steps, asked.guidance, asked.shift, len(asked.seeds)) == (steps, guidance, shift, outputs)
    assert asked.solver == "unipc"
    assert not asked.adjusted


def test_there_are_ten_types():
    assert PRESETS.keys() == TEN.keys()


def test_an_eleventh_type_is_one_table(tmp_path):
    table = '\n[poster_wide]\nkind = "sdxl"\nmedia = "image"\nsize = "1024*576"\nsteps = 20\nguidance = 5.0\n'
    more = 'outputs = [1, 2]\ntier = "artistic"\nbucket_mib = 5\n'
    presets = tmp_path / "presets.toml"
    presets.write_text((CONFIG_DIR / "presets.toml").read_text() + table + more)
    eleven = load_presets(presets)
    asked = resolve(job("poster_wide"), eleven["poster_wide"])
    assert len(eleven) == 11
    assert (asked.width, asked.height, asked.steps, len(asked.seeds)) == (1024, 576, 20, 2)


def test_for_sdxl_only_the_number_of_images_counts_in_the_july_block():
    july = parse(message("july_sdxl"))
    asked = resolve(july, PRESETS[july.type])
    assert (asked.width, asked.height, asked.steps, asked.guidance) == (1024, 1024, 15, 6.0)
    assert len(asked.seeds) == 3


def test_the_newest_forms_own_keys_are_honoured():
    newest = parse(message("newest"))
    asked = resolve(newest, PRESETS[newest.type])
    assert (asked.width, asked.height, asked.steps, asked.guidance) == (1024, 576, 30, 7.0)
    assert asked.seeds == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("asked", "used"), [(83, 81), (81, 81), (80, 77), (5, 5), (4, 1), (0, 1), (10_000, 81), (17.0, 17)]
)
def test_frames_are_rounded_down_to_whole_groups(asked, used):
    assert params(frame_num=asked).frames == used


def test_an_image_has_one_frame_whatever_the_payload_says():
    assert params("image_fast", frame_num=83).frames == 1


@pytest.mark.parametrize("size", ["832*480", "640*480", "480*640", "480*832"])
def test_a_wan_size_that_is_offered_is_honoured(size):
    width, height = map(int, size.split("*"))
    assert (params(size=size).width, params(size=size).height) == (width, height)


@pytest.mark.parametrize("size", ["0*0", "9999*9999", "480x832", "", "-480*832", "٤٨٠*832", "1024*1024"])
def test_a_wan_size_that_is_not_offered_becomes_the_presets_and_is_reported(size):
    asked = params(size=size)
    assert (asked.width, asked.height) == (480, 832)
    assert "size" in asked.adjusted


def test_values_out_of_bounds_are_moved_and_reported():
    asked = params(sample_steps=500, sample_guide_scale=99, sample_shift=0, sample_solver="magic")
    assert (asked.steps, asked.guidance, asked.shift, asked.solver) == (60, 12.0, 1.0, "unipc")
    assert asked.adjusted == {
        "steps": [500, 60],
        "guidance": [99, 12.0],
        "shift": [0, 1.0],
        "solver": ["magic", "unipc"],
    }


@pytest.mark.parametrize("number", [1, 3, 6, 3.0])
def test_sdxl_makes_as_many_images_as_asked(number):
    assert len(params("sdxl_image_fast", num_images=number).seeds) == number


@pytest.mark.parametrize("number", [7, 0, -1, 2, 3.5, "3", True, None, []])
def test_a_number_of_images_that_is_not_offered_is_refused_with_the_offer(number):
    if number is None:
        assert len(params("sdxl_image_fast", num_images=None).seeds) == 6
        return
    with pytest.raises(Rejected, match="1, 3 or 6"):
        params("sdxl_image_fast", num_images=number)


@pytest.mark.parametrize(
    ("seed", "first"), [(0, 0), (7, 7), (7.0, 7), (2**32 + 5, 5), (-1, default_seed(JOB)), ("7", default_seed(JOB))]
)
def test_seeds_follow_the_payload_and_else_the_job_id(seed, first):
    assert params("sdxl_image_fast", num_images=3, seed=seed).seeds == (first, first + 1, first + 2)


def test_the_default_seed_is_31_bits_of_the_job_ids_hash():
    assert default_seed("b91f6c1e-3c5d-4f67-9a1b-2f0c5d7e8a90") == 0xB321FC68 >> 1


def test_seeds_wrap_at_32_bits():
    assert params("sdxl_image_fast", num_images=3, seed=2**32 - 1).seeds == (2**32 - 1, 0, 1)


@pytest.mark.parametrize(
    ("job_type", "scale", "size"),
    [("sdxl_image_fast", 0.125, (128, 128)), ("video_fast", 2 / 15, (64, 112)), ("image_high", 2 / 15, (64, 112))],
)
def test_small_weights_scale_the_sizes_and_nothing_else(job_type, scale, size):
    small, full = params(job_type, scale), params(job_type)
    assert (small.width, small.height) == size
    assert (small.frames, small.steps, small.seeds) == (full.frames, full.steps, full.seeds)
