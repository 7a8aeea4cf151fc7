"""SDXL's VAE in half precision: scaled down inside, the same outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sdxl_support import tiny_engine

from workers.engines.sdxl import vae
from workers.tiny import sdxl as tiny

pytestmark = pytest.mark.pipelines


@pytest.fixture
def network(tmp_path: Path) -> Any:
    tiny.write_config(tmp_path)
    return tiny.models(tmp_path, seed=0)["vae"]


@pytest.fixture
def latent() -> torch.Tensor:
    return torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))


def make_overflow(network: Any) -> None:
    """Let the inner values of a VAE pass 65,504."""
    network.decoder.conv_in.weight.data *= 2.0**17


def test_shrinking_changes_nothing_that_can_be_seen(network: Any, latent: torch.Tensor) -> None:
    before = vae.decode(network, latent).astype(int)
    vae.shrink(network)
    assert abs(vae.decode(network, latent).astype(int) - before).max() == 0


def test_shrinking_leaves_the_way_from_pixels_to_latents_as_it_is(network: Any) -> None:
    picture = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    before = network.encode(picture).latent_dist.mean
    vae.shrink(network)
    torch.testing.assert_close(network.encode(picture).latent_dist.mean, before)


def test_what_overflows_half_precision_does_not_when_shrunk(network: Any, latent: torch.Tensor) -> None:
    make_overflow(network)
    expected = vae.decode(network, latent).astype(int)
    vae.shrink(network, 2.0**-8)
    assert abs(vae.decode(network.half(), latent.half()).astype(int) - expected).max() <= 2
    assert network.dtype == torch.float16


def test_what_overflows_all_the_same_goes_on_in_bfloat16(network: Any, latent: torch.Tensor) -> None:
    make_overflow(network)
    expected = vae.decode(network, latent).astype(int)
    assert abs(vae.decode(network.half(), latent.half()).astype(int) - expected).mean() < 4
    assert network.dtype == torch.bfloat16


def test_a_loaded_engine_has_a_shrunk_vae(tmp_path: Path) -> None:
    norm = tiny_engine(tmp_path)._pipeline.vae.decoder.conv_norm_out
    assert norm.eps == pytest.approx(1e-6 * vae.SHRINK**2)
