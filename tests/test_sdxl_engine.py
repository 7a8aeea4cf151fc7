"""The SDXL engine on a small checkpoint: the very code that production runs, on the processor."""

from __future__ import annotations

import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from offline import offline
from safetensors.torch import load_file, save_file
from sdxl_support import generate, pixels, tiny_engine

from workers.engines.sdxl import SdxlEngine, load, schedulers, vae
from workers.errors import EngineBroken, Interrupted, Misconfigured, Rejected
from workers.tiny import sdxl as tiny
from workers.watch import Watch

pytestmark = pytest.mark.pipelines


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    with offline():
        yield


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, _offline: None) -> SdxlEngine:
    return tiny_engine(tmp_path_factory.mktemp("models"))


def interrupting_at(step: int) -> Watch:
    def asked(watch: Watch) -> None:
        if watch.current == "denoise" and watch.done == step:
            watch.abort(Interrupted())

    return Watch(on_step=asked)


@pytest.mark.parametrize(
    ("part", "parameters"),
    [
        ("unet", 2_567_463_684),
        ("vae", 83_653_863),
        ("text_encoder", 123_060_480),
        ("text_encoder_2", 694_659_840),
    ],
)
def test_the_shipped_configuration_is_that_of_the_real_model(part: str, parameters: int) -> None:
    with torch.device("meta"):
        network = tiny.models(load.SHIPPED, seed=0)[part]
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("images", [3, 6])
def test_each_picture_of_a_batch_is_the_one_that_its_seed_gives_alone(engine: SdxlEngine, images: int) -> None:
    seeds = tuple(range(40, 40 + images))
    together = pixels(engine, seeds=seeds)
    for picture, seed in zip(together, seeds, strict=True):
        assert abs(picture - pixels(engine, seeds=(seed,))[0]).max() <= 1


def test_outputs_say_their_seed_and_come_as_bytes_in_the_asked_size(engine: SdxlEngine) -> None:
    outputs = generate(engine, seeds=(5, 2**32 - 1, 0), width=96, height=64)
    assert [(output.index, output.seed) for output in outputs] == [(0, 5), (1, 2**32 - 1), (2, 0)]
    assert {(output.frames.shape, str(output.frames.dtype)) for output in outputs} == {((1, 64, 96, 3), "uint8")}


@pytest.mark.parametrize(
    "change",
    [{"seeds": (8,)}, {"solver": "dpm++"}, {"solver": "euler"}, {"steps": 5}, {"guidance": 9.0}, {"prompt": "a tree"}],
)
def test_whatever_is_asked_for_changes_the_picture(engine: SdxlEngine, change: dict[str, Any]) -> None:
    assert (pixels(engine, **change) != pixels(engine)).any()


def test_a_job_leaves_no_trace_in_the_next_one(engine: SdxlEngine) -> None:
    before = pixels(engine)
    pixels(engine, solver="dpm++", steps=7, guidance=2.0, seeds=(1, 2, 3), prompt="a red bicycle")
    assert (pixels(engine) == before).all()


@pytest.mark.parametrize("solver", schedulers.SOLVERS)
def test_every_solver_does_with_a_single_step(engine: SdxlEngine, solver: str) -> None:
    assert pixels(engine, solver=solver, steps=1).std() > 5


def test_an_unknown_solver_is_the_jobs_fault(engine: SdxlEngine) -> None:
    with pytest.raises(Rejected, match="sample_solver"):
        generate(engine, solver="abacus")


def test_two_processes_give_the_same_bits(tmp_path: Path) -> None:
    script = (
        "import hashlib, sys, pathlib; from sdxl_support import generate, tiny_engine;"
        "engine = tiny_engine(pathlib.Path(sys.argv[1]));"
        "print(hashlib.sha256(b''.join(o.frames.tobytes() for o in generate(engine, seeds=(1, 2)))).hexdigest())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / name)],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}", "OMP_NUM_THREADS": "1"},
        )
        for name in ("one", "two")
    ]
    first, second = (process.communicate(timeout=60)[0] for process in started)
    assert len(first.strip()) == 64
    assert first == second


def test_phases_are_timed_and_counts_noted(engine: SdxlEngine) -> None:
    watch = Watch()
    generate(engine, watch, prompt="a red bicycle", negative_prompt="blurry, grey")
    assert set(watch.timings) == {"encode_text", "denoise", "decode"}
    assert watch.notes == {"prompt_tokens": 3, "prompt_chunks": 1, "negative_tokens": 3}


def test_every_step_moves_the_marker(engine: SdxlEngine) -> None:
    seen: list[tuple[str, int, int]] = []
    generate(engine, Watch(on_step=lambda w: seen.append((w.current, w.done, w.total))), seeds=(1, 2), steps=3)
    assert seen == [("denoise", i, 3) for i in (1, 2, 3)] + [("decode", i, 2) for i in (1, 2)]


def test_an_interrupted_job_ends_at_the_next_step_and_the_next_job_is_unharmed(engine: SdxlEngine) -> None:
    before, watch = pixels(engine), interrupting_at(2)
    with pytest.raises(Interrupted):
        generate(engine, watch)
    assert "decode" not in watch.timings
    assert (pixels(engine) == before).all()


def test_warming_up_uses_the_models_own_size_and_every_batch(engine: SdxlEngine) -> None:
    seen: set[tuple[int, ...]] = set()
    watch = Watch()
    with engine._pipeline.unet.register_forward_pre_hook(lambda _, arguments: seen.add(tuple(arguments[0].shape))):
        engine.warm_up(watch)
    assert seen == {(2 * images, 4, 16, 16) for images in (1, 3, 6)}
    assert "warm_up" in watch.timings


def test_loading_reports_progress_and_names_the_checkpoint(tmp_path: Path) -> None:
    moved: list[int] = []
    tiny.write(tmp_path)
    engine = SdxlEngine(tmp_path / tiny.CHECKPOINT, device="cpu", name="small")
    engine.load(watch := Watch(on_step=lambda watch: moved.append(watch.done)))
    assert moved[-1] == (tmp_path / tiny.CHECKPOINT).stat().st_size
    assert "load" in watch.timings
    assert (engine.model_name, len(engine.model_hash or "")) == ("small", 10)


def test_an_unloaded_engine_holds_no_weights(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path)
    generate(engine, steps=1)
    unet = weakref.ref(engine._pipeline.unet)
    engine.unload()
    assert unet() is None


def test_a_batch_too_large_for_the_card_is_made_in_halves(engine: SdxlEngine) -> None:
    expected = pixels(engine, seeds=(1, 2, 3))
    with refusing_more_than(engine, images=2):
        assert abs(pixels(engine, seeds=(1, 2, 3)) - expected).max() <= 1


def test_a_batch_whose_half_is_too_large_asks_for_a_new_process(engine: SdxlEngine) -> None:
    with refusing_more_than(engine, images=0), pytest.raises(EngineBroken) as broken:
        generate(engine, seeds=(1, 2, 3))
    assert broken.value.exit_code == 71


def refusing_more_than(engine: SdxlEngine, *, images: int) -> Any:
    def check(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > 2 * images:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    return engine._pipeline.unet.register_forward_pre_hook(check)


def spoil(tensors: dict[str, torch.Tensor], prefix: str) -> None:
    for key in [key for key in tensors if key.startswith(prefix)]:
        del tensors[key]


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("model.diffusion_model.", "no denoiser"),
        ("first_stage_model.", "no VAE"),
        ("conditioner.embedders.0.", "no first text encoder"),
        ("conditioner.embedders.1.", "no second text encoder"),
        ("model.diffusion_model.out.2.bias", "tensors of the denoiser or the VAE are missing"),
        ("first_stage_model.decoder.conv_in.bias", "tensors of the denoiser or the VAE are missing"),
        ("conditioner.embedders.1.model.ln_final.bias", "final_layer_norm.bias is missing"),
    ],
)
def test_an_incomplete_checkpoint_is_refused_by_what_it_lacks(tmp_path: Path, prefix: str, said: str) -> None:
    def rewrite(checkpoint: Path) -> None:
        tensors = load_file(checkpoint)
        spoil(tensors, prefix)
        save_file(tensors, checkpoint)

    assert_refused(tmp_path, rewrite, said)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "is not there. Copy the checkpoint to it"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "not a whole safetensors file"),
        (lambda path: path.write_text("<html>Not found</html>"), "not a whole safetensors file"),
        (lambda path: path.write_bytes(b""), "not a whole safetensors file"),
        (lambda path: shutil.rmtree(path.parent / "config"), "does not fit the configuration in"),
    ],
)
def test_a_missing_truncated_or_foreign_file_is_refused_with_a_remedy(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    assert_refused(tmp_path, damage, said)


def assert_refused(folder: Path, damage: Callable[[Path], object], said: str) -> None:
    tiny.write(folder)
    damage(folder / tiny.CHECKPOINT)
    with pytest.raises(Misconfigured, match=said) as refused:
        SdxlEngine(folder / tiny.CHECKPOINT, device="cpu").load(Watch())
    assert all("\n" not in problem and problem.endswith(".") for problem in refused.value.problems)


def test_a_configuration_beside_the_checkpoint_wins_over_the_shipped_one(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    assert load.config_for(tmp_path / tiny.CHECKPOINT) == (tmp_path / tiny.CHECKPOINT).parent / "config"
    assert load.config_for(tmp_path / "elsewhere.safetensors") == load.SHIPPED


def test_shrinking_the_vae_changes_nothing_that_can_be_seen(engine: SdxlEngine) -> None:
    latent = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    network = tiny.models(engine._config, seed=0)["vae"]
    before = vae.decode(network, latent).astype(int)
    vae.shrink(network)
    assert abs(vae.decode(network, latent).astype(int) - before).max() == 0


def test_a_vae_that_overflows_half_precision_does_not_when_shrunk(engine: SdxlEngine) -> None:
    latent, network = overflowing(engine)
    expected = vae.decode(network, latent.float()).astype(int)
    vae.shrink(network, 2.0**-8)
    assert abs(vae.decode(network.half(), latent).astype(int) - expected).max() <= 2
    assert network.dtype == torch.float16


def test_a_vae_that_overflows_all_the_same_goes_on_in_bfloat16(engine: SdxlEngine) -> None:
    latent, network = overflowing(engine)
    expected = vae.decode(network, latent.float()).astype(int)
    assert abs(vae.decode(network.half(), latent).astype(int) - expected).mean() < 4
    assert network.dtype == torch.bfloat16


def overflowing(engine: SdxlEngine) -> tuple[torch.Tensor, Any]:
    """A latent in half precision, and a VAE whose inner values for it pass 65,504."""
    network = tiny.models(engine._config, seed=0)["vae"]
    network.decoder.conv_in.weight.data *= 2.0**17
    return torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0)).half(), network


def test_latents_that_are_not_numbers_are_an_error_and_no_picture(engine: SdxlEngine) -> None:
    spoiled = engine._pipeline.unet.register_forward_hook(lambda _, __, output: (output[0] * float("nan"),))
    with spoiled, pytest.raises(FloatingPointError):
        generate(engine)
