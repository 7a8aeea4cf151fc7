"""A clip's products in 8 bits: near to what they stand for, and nobody else's business."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file
from wan_support import PICTURE, loaded

from bench.frame import psnr
from tests.test_turbo import counted
from tests.test_wan_speed import Compilations, drawn
from workers.engines.loras import Shelf
from workers.engines.wan import WanEngine, fused, pipeline
from workers.engines.wan.denoise import one_by_one
from workers.engines.wan.eight_bits import DIP, EightBits, gelu, rounded
from workers.engines.wan.engine import EIGHT_BITS
from workers.engines.wan.shared import FirstBlock
from workers.errors import Interrupted
from workers.job import Lora, Turbo
from workers.loras import LoraFile
from workers.tiny import wan as tiny
from workers.watch import Watch

CLIP = replace(PICTURE, media="video", frames=5)
LAYER = "blocks.0.ffn.net.0.proj"
LORA = (Lora("bright", 1.0),)


# One product


def test_rows_are_rounded_by_their_own_largest_value():
    rows = drawn(3, 64) * torch.tensor([[1e-3], [1.0], [1e3]])
    values, scales = rounded(rows)
    assert (values.float().abs().amax(-1) == 448).all()
    apart = (values.float() * scales - rows).norm(dim=-1) / rows.norm(dim=-1)
    assert (apart < 0.04).all()


def test_a_row_of_zeros_stays_one():
    values, scales = rounded(torch.zeros(2, 16))
    assert (values.float() * scales == 0).all()


def test_the_gelu_is_the_librarys_and_its_dip_is_no_deeper_than_it_says():
    x = torch.linspace(-12, 12, 4001)
    assert torch.allclose(gelu(x), torch.nn.functional.gelu(x, approximate="tanh"), atol=1e-6)
    assert 0.99 * DIP < -gelu(x).min() <= DIP


# The video model


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    tiny.write(folder)
    return folder / tiny.FOLDER


@pytest.fixture(scope="module")
def engine(root) -> WanEngine:
    """With a LoRA that changes one of the large layers."""
    wide, narrow = tiny.SIZES["transformer"]["ffn_dim"], 24
    tensors = {f"transformer.{LAYER}.lora_A.weight": drawn(2, narrow) * 0.3,
               f"transformer.{LAYER}.lora_B.weight": drawn(wide, 2, seed=4) * 0.3}  # fmt: skip
    path = root.parent / "bright.safetensors"
    save_file(tensors, path)
    file = LoraFile(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), "wan")
    return loaded(root, eight_bits=True, loras=Shelf(root.parent, {"bright": file}))


def made(engine: WanEngine, turbo: Turbo = EIGHT_BITS, **changes: Any) -> np.ndarray:
    return engine.generate(replace(CLIP, turbo=turbo, **changes), Watch())[0].frames


def layers(engine: WanEngine) -> list[Any]:
    return engine._denoiser._eight_bits._layers


@pytest.mark.pipelines
def test_a_clip_in_8_bits_is_another_one_but_near(engine):
    plain, rounder = made(engine, Turbo()) / 255, made(engine) / 255
    assert 30 < psnr(rounder, plain) < 50


@pytest.mark.pipelines
def test_who_does_not_ask_gets_the_same_bits_before_and_after(root, engine):
    without = made(loaded(root), Turbo())
    made(engine)
    assert np.array_equal(made(engine, Turbo()), without)
    with pytest.raises(Interrupted):
        engine.generate(replace(CLIP, turbo=EIGHT_BITS), stopping())
    assert np.array_equal(made(engine, Turbo()), without)


def stopping() -> Watch:
    def on_step(watch: Watch) -> None:
        if watch.current == "denoise":
            watch.abort(Interrupted("stopped"))

    return Watch(on_step=on_step)


@pytest.mark.pipelines
def test_they_follow_loras_and_leave_nothing_behind(engine):
    before, plain = made(engine), [layer.weight.float() for layer in layers(engine)]
    assert not np.array_equal(made(engine, loras=LORA), before)
    changed = [not torch.equal(layer.weight.float(), old) for layer, old in zip(layers(engine), plain, strict=True)]
    assert sum(changed) == 1
    assert all(torch.equal(layer.weight.float(), rounded(layer.linear.weight)[0].float()) for layer in layers(engine))
    assert np.array_equal(made(engine), before)


@pytest.mark.pipelines
def test_blocks_that_are_left_out_are_left_out_of_them_too(engine):
    with counted(engine._denoiser._eight_bits.blocks[-1]) as calls:
        made(engine, replace(EIGHT_BITS, reuse=1.0))
    assert len(calls) == 2  # the first step's, one for each text


@pytest.mark.pipelines
def test_both_texts_of_a_step_share_what_they_have_in_common(engine):
    with counted(engine._denoiser._eight_bits.blocks[0].attn1) as calls:
        made(engine)
    assert len(calls) == CLIP.steps


@pytest.mark.pipelines
def test_warm_up_makes_clips_in_both_ways_and_pictures_in_one(root):
    engine = loaded(root, eight_bits=True, warm_up_shapes=[(64, 112, 1), (64, 112, 5), (112, 64, 5)])
    with counted(engine._denoiser._eight_bits.blocks[0]) as calls:
        engine.warm_up(Watch())
    assert len(calls) == 2 * 2  # both texts of two shapes


@pytest.mark.pipelines
def test_an_engine_that_was_made_without_them_does_not_pretend(root):
    with pytest.raises(RuntimeError, match="eight_bits"):
        made(loaded(root))


# The blocks


def as_they_are(blocks: Any) -> FirstBlock:
    return FirstBlock(blocks[0], lambda function: function)


@pytest.fixture
def transformer(root, engine) -> Any:
    """By itself, as it is loaded."""
    folder = root.with_name(root.name + "-diffusers") / "transformer"
    return pipeline.load_model(folder, WanTransformer3DModel, "cpu", torch.float32, Watch())


def velocity(transformer: Any) -> Any:
    ask = one_by_one(transformer, drawn(1, 512, 32), drawn(1, 512, 32, seed=4), 6.5)
    with torch.no_grad():
        return ask(drawn(1, 16, 3, 8, 6), torch.tensor(500))


@pytest.mark.pipelines
def test_a_product_is_that_of_the_rounded_factors(transformer):
    layer, hidden = EightBits(transformer, as_they_are)._layers[0], drawn(1, 7, 24)
    (rows, scales), (weight, scale) = rounded(hidden[0]), rounded(layer.linear.weight)
    exact = (rows.float() * scales) @ (weight.float() * scale).t() + layer.linear.bias
    with torch.no_grad():
        assert torch.allclose(layer(hidden)[0], exact, atol=1e-6)
        assert not torch.allclose(layer(hidden), layer.linear(hidden), atol=1e-3)


@pytest.mark.pipelines
def test_they_hold_a_byte_for_each_weight_and_share_all_else(transformer):
    eight = EightBits(transformer, as_they_are)
    assert {id(p) for p in eight.blocks.parameters()} == {id(p) for p in transformer.blocks.parameters()}
    for layer in eight._layers:
        assert layer.weight.nbytes == layer.linear.weight.numel()
        assert layer.scale.numel() == len(layer.linear.weight)


@pytest.mark.pipelines
def test_fused_blocks_are_rounded_as_the_others_are(transformer):
    plain = velocity(transformer)
    with EightBits(transformer, as_they_are).worn():
        apart = velocity(transformer)
    fused.fuse_transformer(transformer)
    eight = EightBits(transformer, as_they_are)
    with eight.worn():
        joined = velocity(transformer)
    assert (joined - apart).norm() < 0.05 * (plain - apart).norm()
    assert len(eight._layers) == 6 * len(transformer.blocks)  # no weight twice: query, key and value are one


@pytest.mark.pipelines
def test_they_are_compiled_once_for_all_blocks(transformer):
    asked_for = Compilations()

    def compile_all(blocks: Any) -> Any:
        for block in blocks:
            block.compile(fullgraph=True, dynamic=False, backend=asked_for)

    fused.fuse_transformer(transformer)
    eight = EightBits(transformer, compile_all)
    compile_all(transformer.blocks)
    velocity(transformer)
    assert len(asked_for) == 1
    with eight.worn():
        velocity(transformer)
        velocity(transformer)
    assert len(asked_for) == 2
