"""Clips whose work is kept by magnitude or by content: the tables, the curve, and the engine that follows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from wan_support import PICTURE, loaded

from tests.test_marking import settings
from tests.test_turbo import OFF, counted, made, wish
from tests.workbench import payload
from workers.engines.wan.curve import Curve, load, measuring, save
from workers.errors import Misconfigured
from workers.job import Turbo
from workers.kinds import KINDS, Catalogue
from workers.prompting.rules import load_rules
from workers.tables import load_models, load_presets
from workers.tiny import qwen as tiny_qwen
from workers.tiny import wan as tiny
from workers.volume import curve_for

PRESETS = load_presets()
BY_MAGNITUDE = Turbo(on=True, reuse=0.12, reuse_by="magnitude")
BY_SPECTRUM = Turbo(on=True, reuse=10.0, reuse_by="spectrum")
WANTED = replace(PRESETS["video_fast"], turbo=BY_MAGNITUDE)
CLIP = replace(PICTURE, frames=5, steps=6)
CURVE = Curve((999.0, 500.0, 100.0), (1.0, 0.8, 0.4))
FLAT = Curve((999.0, 100.0), (1.0, 1.0))


# What magnitudes need


def test_a_curve_is_read_at_any_times_and_ends_flat():
    assert CURVE.at([999.0, 749.5, 500.0, 300.0, 100.0]) == pytest.approx([1.0, 0.9, 0.8, 0.6, 0.4])
    assert CURVE.at([1000.0, 10.0]) == [1.0, 0.4]


def test_a_curve_outlives_its_process(tmp_path):
    save(tmp_path / "curve.json", CURVE)
    assert load(tmp_path / "curve.json") == CURVE


@pytest.mark.parametrize("text", [None, "", "[]", '{"times": [1]}', '{"times": 1, "magnitudes": 1}'])
def test_no_curve_is_a_wrong_configuration_that_names_the_field_and_the_command(tmp_path, text):
    models = load_models()
    if text is not None:
        (tmp_path / models.wan.magnitudes).write_text(text)
    with pytest.raises(Misconfigured, match=r"\[video_fast.turbo\] reuse_by: .*workers models calibrate"):
        curve_for([WANTED], tmp_path, models)


def test_nobody_needs_a_curve_who_does_not_reuse_by_it(tmp_path):
    off = replace(BY_MAGNITUDE, on=False)
    others = [replace(WANTED, turbo=turbo) for turbo in (off, BY_SPECTRUM, Turbo(on=True, reuse=0.08))]
    assert curve_for([*others, *PRESETS.values()], tmp_path, load_models()) is None


def test_the_engine_is_given_the_volumes_curve_where_a_preset_wants_it(tmp_path):
    known, models = settings(tmp_path), load_models()
    tiny_qwen.write(known.huggingface)
    deployment = Catalogue(known, {"video_fast": WANTED}, models, load_rules(), "cpu")
    with pytest.raises(Misconfigured, match="reuse_by"):
        KINDS["wan"].engine(deployment)
    known.model_root.mkdir(exist_ok=True)
    save(known.model_root / models.wan.magnitudes, CURVE)
    assert KINDS["wan"].engine(deployment)._curve == CURVE
    assert KINDS["wan"].engine(replace(deployment, presets=PRESETS))._curve is None


# Tables and accounts


def test_a_criterion_without_a_limit_and_one_that_is_not_known_are_wrong_tables(tmp_path):
    file = tmp_path / "presets.toml"
    for table in ('reuse_by = "magnitude"', 'reuse = 0.1\nreuse_by = "guesswork"'):
        file.write_text(f'[x]\nkind = "wan"\nmedia = "video"\nsize = "64*64"\nsteps = 2\nguidance = 2\n'
                        f'tier = "artistic"\nbucket_mib = 1\n[x.turbo]\n{table}\n')  # fmt: skip
        with pytest.raises(Misconfigured, match=r"turbo\.reuse_by"):
            load_presets(file)


def test_whoever_gets_a_clip_is_told_by_what_and_a_single_frame_has_none_of_it(bench, monkeypatch):
    at = bench()
    monkeypatch.setitem(at.maker.presets, "video_fast", WANTED)
    at.push(payload("video_fast", config={"frame_num": 5}))
    (outcome,) = at.ends()
    assert outcome.metadata["turbo"] == {"reuse": 0.12, "reuse_by": "magnitude"}
    assert wish(BY_MAGNITUDE, frame_num=1).turbo == Turbo(on=True)


# The video model


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volume")
    tiny.write(folder)
    return loaded(folder / tiny.FOLDER, curve=FLAT)


@pytest.fixture(scope="module")
def plain(wan) -> np.ndarray:
    return made(wan, CLIP)


@pytest.mark.pipelines
@pytest.mark.parametrize(("turbo", "computed"), [(BY_MAGNITUDE, 3), (BY_SPECTRUM, 2)], ids=["magnitude", "spectrum"])
def test_not_even_the_first_block_is_computed_where_the_others_are_left_out(wan, plain, turbo, computed):
    blocks = wan._pipeline.transformer.blocks
    with counted(blocks[0]) as first, counted(blocks[-1]) as last:
        reused = made(wan, CLIP, turbo)
    assert len(first) == len(last) == 2 * computed
    assert not np.array_equal(reused, plain)


@pytest.mark.pipelines
@pytest.mark.parametrize("turbo", [BY_MAGNITUDE, BY_SPECTRUM], ids=["magnitude", "spectrum"])
def test_a_limit_that_nothing_keeps_leaves_the_clip_as_it_is_and_so_does_the_job_before(wan, plain, turbo, monkeypatch):
    monkeypatch.setattr(wan._denoiser, "_curve", CURVE)
    assert np.array_equal(made(wan, CLIP, replace(turbo, reuse=1e-9)), plain)
    made(wan, CLIP, replace(turbo, guided=(0.0, 0.5)))
    assert np.array_equal(made(wan, CLIP), plain)


@pytest.mark.pipelines
def test_what_is_measured_is_a_plain_clip_and_its_curve_has_every_step(wan, plain):
    with measuring(wan._pipeline.transformer) as measured:
        assert np.array_equal(made(wan, CLIP), plain)
    curve = measured.curve()
    assert len(curve.times) == len(curve.magnitudes) == CLIP.steps
    assert curve.magnitudes[0] == 1.0
    assert list(curve.times) == sorted(curve.times, reverse=True)


@pytest.mark.pipelines
def test_magnitudes_grow_as_what_the_blocks_add_does(wan):
    """Both texts' together, each against its own step before."""
    with measuring(wan._pipeline.transformer) as measured:
        added = torch.ones(1, 2, 3)
        for time, sizes in ((900.0, (1.0, 5.0)), (500.0, (2.0, 10.0)), (100.0, (1.0, 10.0))):
            monkey = torch.nn.Module()
            for text, size in enumerate(sizes):
                monkey.forward = lambda hidden, size=size: hidden + size * added
                measured._blocks = [monkey]
                measured.forward((torch.tensor([time]), text), torch.zeros(1, 2, 3))
    assert measured.curve() == Curve((900.0, 500.0, 100.0), (1.0, 2.0, 1.5))


@pytest.mark.pipelines
def test_an_engine_without_a_curve_says_so(wan, monkeypatch):
    monkeypatch.setattr(wan._denoiser, "_curve", None)
    with pytest.raises(RuntimeError, match="curve"):
        made(wan, CLIP, BY_MAGNITUDE)
    assert made(wan, CLIP, OFF).shape == (5, 112, 64, 3)


@pytest.mark.pipelines
def test_content_is_weighed_by_the_grid_of_tokens_and_by_each_steps_share_of_noise(wan):
    criterion = wan._denoiser._criterion(BY_SPECTRUM, torch.zeros(1, 16, 2, 14, 8), [999.0, 500.0])
    assert list(criterion._grid) == [2, 7, 4]
    assert list(criterion._noise) == [0.999, 0.5]
