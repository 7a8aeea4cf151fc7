"""The VAE in fewer passes gives what the library's own gives, by kernels and without, chunk after chunk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workers.engines.wan import ops
from workers.engines.wan.vae import fuse_vae
from workers.tiny import wan as tiny

pytestmark = pytest.mark.pipelines

CHUNKS = {"frames one by one": [1, 1, 1], "four after the first": [1, 4, 4], "two at once": [2, 3]}


def drawn(*shape: int, seed: int = 3) -> Any:
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def plain() -> Any:
    """With biases and norms that can be told from none."""
    import torch

    _, vae, _ = tiny._models(0)
    vae = vae.eval().requires_grad_(False)
    for place, (name, parameter) in enumerate(vae.named_parameters()):
        if name.endswith(("bias", "gamma")):
            parameter.data = 1 + drawn(*parameter.shape, seed=place) / 2
    return vae.to(torch.float32)


@pytest.fixture(params=["kernels", "torch"])
def fused(plain: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ops, "_own", lambda x: request.param == "kernels")
    vae = copy.deepcopy(plain)
    fuse_vae(vae)
    return vae


def close(one: Any, other: Any) -> bool:
    import torch

    return torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def blocks(vae: Any) -> Iterator[Any]:
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanResidualBlock

    return (module for module in vae.modules() if isinstance(module, WanResidualBlock))


def block(vae: Any, shortcut: bool) -> Any:
    return next(found for found in blocks(vae) if (found.in_dim != found.out_dim) == shortcut)


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("frames", CHUNKS.values(), ids=CHUNKS)
def test_a_block_remembers_the_last_frames_of_the_chunk_before(
    frames: list[int], shortcut: bool, plain: Any, fused: Any
) -> None:
    theirs, ours = block(plain, shortcut), block(fused, shortcut)
    memories: list[list[Any]] = [[None] * 4, [None] * 4]
    for seed, count in enumerate(frames):
        x, places = drawn(1, ours.in_dim, count, 5, 3, seed=seed), ([1], [1])
        made = [part(x, memory, place) for part, memory, place in zip((ours, theirs), memories, places, strict=True)]
        assert close(*made)
        assert places == ([3], [3])
    for kept, expected in zip(memories[0][1:3], memories[1][1:3], strict=True):
        assert kept.shape[2] == 2
        assert close(kept[:, :, -expected.shape[2] :], expected)


@pytest.mark.parametrize("shortcut", [False, True])
def test_a_block_without_a_memory_sees_nothing_before_the_first_frame(shortcut: bool, plain: Any, fused: Any) -> None:
    ours, x = block(fused, shortcut), drawn(1, block(plain, shortcut).in_dim, 3, 5, 3)
    expected = block(plain, shortcut)(x)
    assert close(ours(x), expected)
    assert close(ours(x), expected), "nothing is left of the call before"


def test_what_a_block_is_given_stays_as_it_is(fused: Any) -> None:
    ours = block(fused, False)
    x = drawn(1, ours.in_dim, 3, 5, 3)
    before = x.clone()
    ours(x)
    assert x.equal(before)


def test_several_videos_at_once_are_refused(fused: Any) -> None:
    ours = block(fused, False)
    with pytest.raises(RuntimeError, match="view size"):
        ours(drawn(2, ours.in_dim, 3, 5, 3))


Half = Callable[[Any], Any]
HALVES: dict[str, Half] = {
    "decode": lambda vae: vae.decode(drawn(1, 16, 3, 6, 4), return_dict=False)[0],
    "encode": lambda vae: vae.encode(drawn(1, 3, 9, 48, 32)).latent_dist.mode(),
}


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
def test_frames_and_latents_are_the_same(
    half: Half, tiled: bool, plain: Any, fused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for vae in (plain, fused):
        monkeypatch.setattr(vae, "use_tiling", tiled)
        for side in ("height", "width"):
            monkeypatch.setattr(vae, f"tile_sample_min_{side}", 32)
            monkeypatch.setattr(vae, f"tile_sample_stride_{side}", 16)
    assert close(half(fused), half(plain))
