"""Which clips are computed in 8 bits: those whose preset says so, where the card can and the model is the one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.test_marking import settings
from tests.workbench import payload
from workers.card import gpu
from workers.engines.wan.engine import EIGHT_BITS
from workers.errors import Misconfigured
from workers.job import Guide, Job, SamplingParams
from workers.kinds import KINDS, Catalogue
from workers.prompting.rules import load_rules
from workers.resolve import fitting, resolve
from workers.tables import eight_bits, load_models, load_presets
from workers.tiny import qwen as tiny_qwen

PRESETS = load_presets()
ON = replace(PRESETS["video_fast"], turbo=EIGHT_BITS)


def asked(**config: object) -> SamplingParams:
    return resolve(Job("a", "video_fast", "u", "a red bicycle", config=config), ON)


def test_no_shipped_preset_has_them():
    assert not any(preset.turbo.precision for preset in PRESETS.values())
    assert not eight_bits(PRESETS.values(), possible=False)


def test_a_clip_has_them_and_a_single_frame_has_not():
    assert asked().turbo.precision == "fp8"
    assert asked(frame_num=1).turbo.precision is None


@pytest.mark.parametrize(("use", "precision"), [("start", "fp8"), ("subject", None), ("frames", None)])
def test_a_clip_that_another_model_makes_is_made_without_them(use, precision):
    assert fitting(replace(asked(), guide=Guide(use))).turbo.precision == precision


def test_whoever_gets_a_result_is_told(bench, monkeypatch):
    at = bench()
    monkeypatch.setitem(at.maker.presets, "video_fast", ON)
    at.push(*(payload("video_fast", config={"frame_num": frames}) for frames in (5, 1)))
    clip, frame = (outcome.metadata for outcome in sorted(at.ends(2), key=lambda o: -o.metadata["frames"]))
    assert (clip["turbo"], frame["turbo"]) == ({"precision": "fp8"}, {})


@pytest.mark.parametrize(("media", "precision"), [("image", "fp8"), ("video", "fp4")])
def test_pictures_and_other_precisions_are_a_wrong_table(tmp_path, media, precision):
    file = tmp_path / "presets.toml"
    file.write_text(f'[x]\nkind = "wan"\nmedia = "{media}"\nsize = "64*64"\nsteps = 2\nguidance = 2\n'
                    f'tier = "artistic"\nbucket_mib = 1\n[x.turbo]\nprecision = "{precision}"\n')  # fmt: skip
    with pytest.raises(Misconfigured, match=r"turbo.*precision"):
        load_presets(file)


def test_a_device_without_them_refuses_to_start_and_names_the_preset():
    with pytest.raises(Misconfigured, match=r"\[video_fast.turbo\] precision"):
        eight_bits([ON], possible=False)
    assert eight_bits([ON], possible=True)
    assert not eight_bits([replace(ON, turbo=replace(EIGHT_BITS, on=False))], possible=False)


def test_the_engine_is_made_ready_for_them_where_a_preset_wants_them(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (9, 0))
    tiny_qwen.write(settings(tmp_path).huggingface)
    deployment = Catalogue(settings(tmp_path), {"video_fast": ON}, load_models(), load_rules(), "cuda")
    assert KINDS["wan"].engine(deployment)._eight_bits
    assert not KINDS["wan"].engine(replace(deployment, presets=PRESETS))._eight_bits
    with pytest.raises(Misconfigured, match="fp8"):
        KINDS["wan"].engine(replace(deployment, device="cpu"))


@pytest.mark.parametrize(("capability", "possible"), [((8, 6), False), ((8, 9), True), ((9, 0), True)])
def test_cards_have_them_since_ada(monkeypatch, capability, possible):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: capability)
    assert gpu.has_eight_bits("cuda") is possible
    assert not gpu.has_eight_bits("cpu")
