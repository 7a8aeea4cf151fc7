"""What makes the video model fast computes what the pipeline computes. Nothing is compiled here: that takes a card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from wan_support import PICTURE, loaded

from workers.card import compiled
from workers.engines.wan import WanEngine, fused, ops
from workers.engines.wan.denoise import denoise, one_by_one
from workers.engines.wan.schedulers import SOLVERS
from workers.engines.wan.shared import halve
from workers.engines.wan.solve import Solved, solve
from workers.tiny import wan as tiny
from workers.watch import Watch

pytestmark = pytest.mark.pipelines


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    tiny.write(folder)
    return folder / tiny.FOLDER


@pytest.fixture(scope="module")
def engine(volume: Path) -> WanEngine:
    return loaded(volume)


def drawn(*shape: int, seed: int = 3) -> Any:
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_a_schedule_solved_in_advance_makes_the_schedulers_steps(name: str, steps: int, engine: WanEngine) -> None:
    import torch

    scheduler = engine._denoiser._scheduler(name, 5.0, steps)
    noise = drawn(1, 16, 1, 4, 6)

    def velocity(latents: Any, time: Any) -> Any:
        return latents * 0.7 + torch.sin(time / 100)

    theirs = denoise(velocity, scheduler, noise, Watch())
    ours = denoise(velocity, Solved(solve(engine._denoiser._scheduler(name, 5.0, steps), "cpu"), noise), noise, Watch())
    assert torch.allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("kernels", [False, True])
def test_the_fused_transformer_gives_the_same_velocities_and_holds_no_weight_twice(
    kernels: bool, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(ops, "_own", lambda x: kernels)
    transformer = loaded(volume)._pipeline.transformer
    before = sum(p.numel() for p in transformer.parameters())
    text, latents, time = drawn(1, 512, 32), drawn(1, 16, 3, 8, 6), torch.tensor(500)
    ask = one_by_one(transformer, text, drawn(1, 512, 32, seed=4), 6.5)
    with torch.no_grad():
        plain = ask(latents, time)
        fused.fuse_transformer(transformer)
        for block in transformer.blocks:
            halve(block)
        assert torch.allclose(ask(latents, time), plain, atol=1e-4)
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in transformer.parameters()}
    assert sum(storages.values()) == before * 4


class Compilations(list[int]):
    """A backend that compiles nothing and counts what it is asked for."""

    def __call__(self, graph: Any, _: Any) -> Any:
        self.append(1)
        return graph.forward


def test_all_blocks_share_what_is_compiled_for_a_number_of_tokens(volume: Path) -> None:
    import torch

    asked, transformer = Compilations(), loaded(volume)._pipeline.transformer
    fused.fuse_transformer(transformer)
    _, *others = transformer.blocks
    for block in others:
        block.compile(fullgraph=True, dynamic=False, backend=asked)
    ask = one_by_one(transformer, drawn(1, 512, 32), drawn(1, 512, 32, seed=4), 6.5)
    with torch.no_grad():
        for height, width in ((8, 6), (6, 8), (8, 8)):
            ask(drawn(1, 16, 3, height, width), torch.tensor(500))
    assert others
    assert len(asked) == 2, "both orientations of a picture have as many tokens"


def looks(transformer: Any) -> list[int]:
    """Grows by the pictures in each call of the first block's self-attention."""
    counted: list[int] = []
    transformer.blocks[0].attn1.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    return counted


def test_what_both_texts_of_a_step_have_in_common_is_computed_once_with_the_same_bits(volume: Path) -> None:
    import torch

    denoiser = loaded(volume)._denoiser
    transformer, latents, time = denoiser._pipeline.transformer, drawn(1, 16, 3, 8, 6), torch.tensor(500)
    wanted, unwanted = drawn(1, 512, 32), drawn(1, 512, 32, seed=4)
    alone = one_by_one(transformer, wanted, unwanted, 6.5)
    together = one_by_one(transformer, wanted, unwanted, 6.5, together=denoiser._first.shared)
    counted = looks(transformer)
    with torch.no_grad():
        assert together(latents, time).equal(alone(latents, time))
        assert counted == [1, 1, 1]
        assert together(latents * 2, time).equal(alone(latents * 2, time)), "nothing is kept for the next step"


def test_both_texts_in_one_call_look_at_their_picture_once(volume: Path) -> None:
    import torch

    denoiser = loaded(volume)._denoiser
    transformer = denoiser._pipeline.transformer
    asked = (drawn(1, 16, 1, 8, 6).expand(2, -1, -1, -1, -1), torch.tensor([500, 500]), drawn(2, 512, 32))
    counted = looks(transformer)
    with torch.no_grad():
        apart = transformer(*asked, return_dict=False)[0]
        with denoiser._first.shared():
            assert torch.allclose(transformer(*asked, return_dict=False)[0], apart, atol=1e-5)
    assert counted == [2, 1]


def test_the_rotation_turns_pairs_of_neighbours(engine: WanEngine) -> None:
    import torch

    cosine, sine = engine._pipeline.transformer.rope(drawn(1, 16, 2, 4, 4))
    x = drawn(1, cosine.shape[1], 2, cosine.shape[-1])
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    angle = torch.complex(cosine[..., ::2], sine[..., ::2])
    signed = torch.stack((-sine[..., ::2], sine[..., 1::2]), -1).flatten(-2)
    turned = torch.view_as_real(pairs * angle).flatten(-2)
    assert torch.allclose(ops.rotated(x, cosine, signed), turned, atol=1e-5)


def compilations_of(shapes: list[int]) -> int:
    """Of a function that meets its first shape during warm-up and the others afterwards."""
    import torch

    asked = Compilations()
    doubled = torch.compile(lambda x: x * 2, backend=asked, dynamic=False)
    try:
        with compiled.compiling():
            assert doubled(torch.ones(shapes[0])).sum() == 2 * shapes[0]
        for shape in shapes:
            assert doubled(torch.ones(shape)).sum() == 2 * shape
    finally:
        torch.compiler.set_stance("default")
    return len(asked)


def test_after_warm_up_a_new_shape_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "possible", lambda: True)
    assert compilations_of([3, 5, 3]) == 1


def test_without_a_compiler_everything_runs_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(_: Any) -> Any:
        raise RuntimeError("Failed to find C compiler.")

    with monkeypatch.context() as broken:
        broken.setattr("torch.compile", no_compiler)
        assert not compiled.possible.__wrapped__()
    monkeypatch.setattr(compiled, "possible", lambda: False)
    assert compilations_of([3, 5]) == 0


def test_compiled_code_is_kept_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    (tmp_path / "file").touch()
    compiled.keep_in(tmp_path / "file" / "below")
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    compiled.keep_in(tmp_path / "compiled")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "compiled")


def test_tuned_kernels_are_looked_up_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.triton_bundler import TritonBundler

    monkeypatch.setattr("torch._inductor.config.bundle_triton_into_fx_graph_cache", True)
    compiled.keep_in(None)
    assert not TritonBundler.is_enabled()


def test_without_a_card_nothing_is_compiled_or_fused(engine: WanEngine) -> None:
    engine.warm_up(Watch())
    assert not engine._pipeline.transformer.blocks[0].attn1.fused_projections
    assert engine.generate(PICTURE, Watch())
