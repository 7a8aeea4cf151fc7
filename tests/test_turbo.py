"""Turbo: less time for other pixels, off unless a preset's table turns it on, and never silently."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from sdxl_support import PARAMS, tiny_engine
from wan_support import PICTURE, loaded

from tests.workbench import payload
from workers.errors import Misconfigured
from workers.job import Job, Lora, Turbo
from workers.loras import LoraFile
from workers.resolve import resolve
from workers.tables import check_loras, load_models, load_presets
from workers.tiny import wan as tiny
from workers.watch import Watch

PRESETS = load_presets()
OFF = Turbo()
HALF = Turbo(on=True, guided=(0.0, 0.5))
NEVER = Turbo(on=True, guided=(0.0, 0.0))
CLIP = replace(PICTURE, frames=5, steps=4)
DISTILLED = Turbo(on=True, steps=4, guidance=1.0, solver="euler", lora=Lora("four-steps", 1.0))
FOUR_STEPS = LoraFile("loras/four.safetensors", "0" * 64, base="wan")


def wish(turbo: Turbo, job_type: str = "video_fast", **config: object):
    job = Job("a", job_type, "u", "a red bicycle", config=config)
    return resolve(job, replace(PRESETS[job_type], turbo=turbo))


def test_no_shipped_preset_has_it_on():
    assert not any(preset.turbo.on for preset in PRESETS.values())


@pytest.mark.parametrize("job_type", PRESETS)
def test_what_is_not_on_changes_nothing_that_is_asked_of_an_engine(job_type):
    asked = wish(replace(DISTILLED, on=False), job_type)
    assert asked == wish(Turbo(), job_type)
    assert asked.turbo == Turbo()


def test_a_distilled_lora_brings_its_steps_its_guidance_and_its_solver():
    asked = wish(DISTILLED)
    assert (asked.steps, asked.guidance, asked.solver) == (4, 1.0, "euler")
    assert asked.loras == (Lora("four-steps", 1.0),)
    assert not asked.adjusted


def test_a_payload_may_ask_it_for_less_but_for_nothing_that_spoils_it():
    assert wish(DISTILLED, sample_steps=3).steps == 3
    spoilt = wish(DISTILLED, sample_steps=30, sample_guide_scale=6.5, sample_solver="dpm++")
    assert (spoilt.steps, spoilt.guidance, spoilt.solver) == (4, 1.0, "euler")
    assert spoilt.adjusted.keys() == {"steps", "guidance", "solver"}


@pytest.mark.parametrize("offered", [{}, {"four-steps": replace(FOUR_STEPS, base="sdxl")}], ids=["missing", "other"])
def test_a_lora_that_is_not_offered_for_its_kind_is_a_wrong_configuration(offered):
    models = load_models().model_copy(update={"loras": offered})
    presets = {"video_fast": replace(PRESETS["video_fast"], turbo=DISTILLED)}
    with pytest.raises(Misconfigured, match="four-steps"):
        check_loras(presets, models)
    check_loras(presets, models.model_copy(update={"loras": {"four-steps": FOUR_STEPS}}))
    check_loras({"video_fast": replace(PRESETS["video_fast"], turbo=replace(DISTILLED, on=False))}, models)


@pytest.mark.parametrize("table", ["guided = [0.7, 0.2]", "guided = [0.0, 2.0]", "reuse = -1", "steps = 0", "fast = 1"])
def test_a_wrong_table_is_named_with_its_key(tmp_path, table):
    file = tmp_path / "presets.toml"
    file.write_text(f'[x]\nkind = "wan"\nmedia = "image"\nsize = "64*64"\nsteps = 2\nguidance = 2\ntier = "artistic"\n'
                    f"bucket_mib = 1\n[x.turbo]\n{table}\n")  # fmt: skip
    with pytest.raises(Misconfigured, match=f"turbo.{table.split()[0]}"):
        load_presets(file)


def test_a_single_picture_is_guided_in_full_since_half_a_step_saves_it_nothing():
    assert wish(HALF, "sdxl_image_fast", num_images=1).turbo.guided == (0.0, 1.0)
    assert wish(HALF, "sdxl_image_fast", num_images=3).turbo.guided == (0.0, 0.5)
    assert wish(HALF).turbo.guided == (0.0, 0.5)


def test_whoever_gets_a_result_is_told(bench, monkeypatch):
    at = bench()
    monkeypatch.setitem(at.maker.presets, "video_fast", replace(PRESETS["video_fast"], turbo=HALF))
    at.push(payload("video_fast", config={"frame_num": 5}))
    (outcome,) = at.ends()
    assert outcome.metadata["turbo"] == {"guided": [0.0, 0.5]}


# The video model


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volume")
    tiny.write(folder)
    return loaded(folder / tiny.FOLDER)


def made(engine, params, turbo: Turbo = OFF, **changes: object) -> np.ndarray:
    return engine.generate(replace(params, turbo=turbo, **changes), Watch())[0].frames


@contextmanager
def counted(module):
    calls: list[int] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    try:
        yield calls
    finally:
        hook.remove()


@pytest.mark.pipelines
def test_a_clip_whose_prompt_stands_alone_is_the_one_without_guidance(wan):
    assert np.array_equal(made(wan, CLIP, NEVER), made(wan, CLIP, guidance=1.0))


@pytest.mark.pipelines
def test_steps_without_guidance_read_one_text(wan):
    transformer = wan._pipeline.transformer
    with counted(transformer) as calls:
        half = made(wan, CLIP, HALF)
    assert len(calls) == 2 * 2 + 2
    assert not np.array_equal(half, made(wan, CLIP))


@pytest.mark.pipelines
def test_what_the_other_blocks_did_is_kept_while_the_first_hardly_changes(wan):
    plain, last = made(wan, CLIP), wan._pipeline.transformer.blocks[-1]
    with counted(last) as calls:
        reused = made(wan, CLIP, Turbo(on=True, reuse=1.0))
    assert len(calls) == 2  # the first step's, one for each text
    assert not np.array_equal(reused, plain)
    with counted(last) as calls:
        assert np.array_equal(made(wan, CLIP, Turbo(on=True, reuse=1e-9)), plain)
    assert len(calls) == 2 * CLIP.steps


@pytest.mark.pipelines
def test_the_next_job_knows_nothing_of_it(wan):
    plain = made(wan, CLIP)
    made(wan, CLIP, Turbo(on=True, guided=(0.0, 0.5), reuse=1.0))
    assert np.array_equal(made(wan, CLIP), plain)


# SDXL


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    return tiny_engine(tmp_path_factory.mktemp("volume"))


@pytest.mark.pipelines
@pytest.mark.parametrize("seeds", [(7,), (7, 8), (7, 8, 9)], ids=["one", "two", "three"])
def test_a_picture_whose_prompt_stands_alone_is_the_one_without_guidance(sdxl, seeds):
    assert np.array_equal(made(sdxl, PARAMS, NEVER, seeds=seeds), made(sdxl, PARAMS, guidance=1.0, seeds=seeds))


@pytest.mark.pipelines
def test_a_step_without_guidance_is_half_of_the_work(sdxl):
    plain = made(sdxl, PARAMS, steps=4)
    with counted(sdxl._pipeline.unet.conv_in) as sizes:
        half = made(sdxl, PARAMS, HALF, steps=4)
    assert sizes == [2, 2, 1, 1]
    assert not np.array_equal(half, plain)
    assert np.array_equal(made(sdxl, PARAMS, steps=4), plain)
