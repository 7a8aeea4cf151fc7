"""Jobs of all ten types travel from a browser's request to files that open, through true models and true processes."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import pytest
from messages import PRESETS, USER
from PIL import Image
from runs import PLANTED, Run

from workers.resolve import scaled
from workers.tables import size_scale

pytestmark = pytest.mark.ring2

PHASES = {"wait", "load", "encode_text", "denoise", "decode", "encode", "upload", "callback"}
every_type = pytest.mark.parametrize("job_type", PRESETS)


def picture(content: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(BytesIO(content)) as image:
        image.load()
        return image.format, image.size


def clip(content: bytes) -> tuple[str, str, tuple[int, int], Fraction | None, int]:
    """Codec, pixel format, size, frames a second and frames."""
    with av.open(BytesIO(content)) as file:
        (stream,) = file.streams.video
        frames = [frame.format.name for frame in file.decode(stream)]
        return stream.codec_context.name, frames[0], (stream.width, stream.height), stream.average_rate, len(frames)


@every_type
def test_every_type_arrives_as_files_that_open_at_the_size_of_its_preset(july: Run, models: Path, job_type: str):
    preset, label = PRESETS[job_type], f"type {job_type}"
    assert (july.row(label)["status"], july.row(label)["error_message"]) == ("completed", None)
    files = july.files(label)
    count, ending = (6 if preset.kind == "sdxl" else 1), ("png" if preset.media == "image" else "mp4")
    assert list(files) == [f"{job_type}/{USER}/{july.jobs[label]}/{index}.{ending}" for index in range(count)]
    size = scaled(preset.size, size_scale(models, preset.kind))
    for content in files.values():
        if preset.media == "image":
            assert picture(content) == ("PNG", size)
        else:
            assert clip(content) == ("h264", "yuv420p", size, 16, 81)


def test_six_images_of_a_batch_are_six_different_ones(july: Run):
    assert len(set(july.files("type sdxl_image_high").values())) == 6


@every_type
def test_the_callback_says_how_it_was_made(july: Run, models: Path, job_type: str):
    preset, said = PRESETS[job_type], july.body(f"type {job_type}")["metadata"]
    assert (said["width"], said["height"]) == scaled(preset.size, size_scale(models, preset.kind))
    assert (said["frames"], said["fps"]) == (preset.frames, 16)
    assert (said["steps"], said["guidance_scale"], said["shift"]) == (preset.steps, preset.guidance, preset.shift)
    assert said["seeds"] == [said["seed"] + index for index in range(said["num_images"])]
    assert said["model"] == {"sdxl": "lustify_sdxl", "wan": "wan_2_1_1_3b"}[preset.kind]
    assert said["worker"].startswith(f"{preset.kind}@")
    assert said["attempt"] == 1
    assert PLANTED in said["original_prompt"]
    assert said["original_prompt"] in said["prompt"]
    assert said["negative_prompt"]


@every_type
def test_the_callback_says_where_the_time_went(july: Run, job_type: str):
    timings = july.body(f"type {job_type}")["metadata"]["timings"]
    assert timings.keys() >= PHASES | ({"enhance"} if PRESETS[job_type].enhance else set())
    assert all(seconds >= 0 for seconds in timings.values())
    assert timings["wait"] > timings["load"] == 0
    assert timings["denoise"] > 0


@pytest.mark.parametrize("job_type", [name for name, preset in PRESETS.items() if preset.media == "video"])
def test_the_83_frames_that_july_asks_for_become_81_and_the_callback_says_so(july: Run, job_type: str):
    assert july.body(f"type {job_type}")["metadata"]["adjusted"] == {"frames": [83.0, 81]}


@every_type
def test_all_rows_of_a_job_end_completed_with_their_file(july: Run, job_type: str):
    """Those of single pictures have no index, and July's own receiver cannot find them."""
    label, media = f"type {job_type}", PRESETS[job_type].media
    rows = july.stack.double.rows(f"{media}s", job_id=july.jobs[label])
    assert {row["status"] for row in rows} == {"completed"}
    assert [row[f"{media}_url"] for row in rows] == july.body(label)["assets"]
