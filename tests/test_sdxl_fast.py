"""SDXL's fast layers against diffusers' own, on small weights; the kernels' own place is the card."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from sdxl_support import asked, networks_in, pixels, random, tiny_engine

from workers.engines.sdxl import fast, ops, schedulers, vae
from workers.engines.sdxl.decoder import Decoder
from workers.engines.sdxl.denoiser import Denoiser
from workers.settings import CONFIG_DIR

pytestmark = pytest.mark.pipelines


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return networks_in(tmp_path_factory.mktemp("config"))


@torch.no_grad()
@pytest.mark.parametrize(
    "inputs",
    [asked(3), asked(1), asked(3, guided=False), asked(2, height=12, width=20), asked(1, height=10, width=14)],
    ids=["three images", "one image", "without guidance", "not square", "odd when halved"],
)
def test_the_fast_denoiser_predicts_what_the_plain_one_does(networks: Mapping[str, Any], inputs: Any) -> None:
    unet = networks["unet"]
    expected = unet(**inputs, return_dict=False)[0]
    torch.testing.assert_close(Denoiser(unet).forward(**inputs)[0], expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_new_text_is_read_and_the_same_text_is_not_read_again(networks: Mapping[str, Any]) -> None:
    denoiser, first, second = Denoiser(networks["unet"]), asked(2), asked(2)
    second["encoder_hidden_states"] = second["encoder_hidden_states"] * 2
    before = denoiser.forward(**first)[0]
    keys = denoiser._keys
    denoiser.forward(**first)
    assert denoiser._keys is keys
    assert (denoiser.forward(**second)[0] != before).any()
    assert (denoiser.forward(**first)[0] == before).all()


@torch.no_grad()
def test_the_fast_decoder_paints_what_the_plain_one_does(networks: Mapping[str, Any]) -> None:
    decoder, latent = networks["vae"].decoder, random(1, 4, 8, 12)
    torch.testing.assert_close(Decoder(decoder).forward(latent), decoder(latent), rtol=0, atol=1e-4)


def test_weights_are_neither_changed_nor_held_twice(networks: Mapping[str, Any]) -> None:
    unet = networks["unet"]
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    Denoiser(unet)
    assert all((tensor == before[name]).all() for name, tensor in unet.state_dict().items())
    attention = unet.mid_block.attentions[0].transformer_blocks[0].attn1
    storages = {layer.weight.untyped_storage().data_ptr() for layer in (attention.to_q, attention.to_k, attention.to_v)}
    assert len(storages) == 1


def test_a_hastened_engine_makes_the_same_pictures(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path)
    before = pixels(engine, seeds=(1, 2, 3))
    fast.hasten(engine._pipeline)
    assert abs(pixels(engine, seeds=(1, 2, 3)) - before).max() <= 1


@pytest.mark.parametrize("solver", schedulers.SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 15, 25])
def test_a_step_as_a_sum_is_the_solvers_step(solver: str, steps: int) -> None:
    name, changes = schedulers.SOLVERS[solver]
    schedule = diffusers.EulerDiscreteScheduler.load_config(CONFIG_DIR / "sdxl" / "scheduler")
    plain = getattr(diffusers, name).from_config(schedule, **changes)
    summed = schedulers.Solvers(schedule).make(solver)
    for scheduler in (plain, summed):
        scheduler.set_timesteps(steps)
    assert (summed.timesteps == plain.timesteps).all()
    theirs = ours = random(2, 4, 8, 8).double() * float(plain.init_noise_sigma)
    for i, timestep in enumerate(plain.timesteps):
        output = random(2, 4, 8, 8, seed=i + 1).double()
        scaled = plain.scale_model_input(theirs, timestep)
        torch.testing.assert_close(summed.scale_model_input(ours, timestep), scaled, rtol=1e-5, atol=1e-4)
        theirs = plain.step(output, timestep, theirs, return_dict=False)[0]
        ours = summed.step(output, timestep, ours)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_plan_is_made_once_and_its_solvers_forget_each_other() -> None:
    schedule = diffusers.EulerDiscreteScheduler.load_config(CONFIG_DIR / "sdxl" / "scheduler")
    solvers, outputs = schedulers.Solvers(schedule), [random(2, 4, 8, 8, seed=seed) for seed in range(4)]
    ends = []
    for _ in range(2):
        solver, latents = solvers.make("unipc"), random(2, 4, 8, 8)
        solver.set_timesteps(4)
        for timestep, output in zip(solver.timesteps, outputs, strict=True):
            latents = solver.step(output, timestep, latents)[0]
        ends.append(latents)
    assert ends[0].equal(ends[1])
    assert solvers.plan.cache_info()[:2] == (1, 1), "the second found what the first had made"


def test_a_fast_decoder_that_overflows_gives_way_to_the_plain_one_in_bfloat16(networks: Mapping[str, Any]) -> None:
    network, latent = copy.deepcopy(networks["vae"]), random(1, 4, 8, 8)
    network.decoder.conv_in.weight.data *= 2.0**17
    expected = vae.decode(network, latent).astype(int)
    network.half()
    with torch.no_grad():
        network.decoder.forward = Decoder(network.decoder).forward
    assert abs(vae.decode(network, latent.half()).astype(int) - expected).mean() < 4
    assert network.dtype == torch.bfloat16


def test_a_device_that_cannot_run_the_kernels_is_left_to_diffusers() -> None:
    assert not fast.possible("cuda:99")


def test_images_side_by_side_are_normed_as_one() -> None:
    norm = torch.nn.GroupNorm(4, 24)
    left, right = random(2, 16, 5, 3), random(2, 8, 5, 3, seed=1)
    expected = norm(torch.cat([left, right], dim=1))
    assert (ops.group_norm([left, right], norm, silu=False) == expected).all()
