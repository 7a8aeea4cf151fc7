"""Loading SDXL: what the volume must hold, and what is said where it does not."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from offline import offline
from safetensors.torch import load_file, save_file
from sdxl_support import generate, tiny_engine

from workers.engines.sdxl import SdxlEngine, load
from workers.errors import Misconfigured
from workers.tiny import sdxl as tiny
from workers.watch import Watch

pytestmark = pytest.mark.pipelines


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    with offline():
        yield


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
        ("model.diffusion_model.out.2.bias", "unet.conv_out.bias is missing"),
        ("first_stage_model.decoder.conv_in.bias", "vae.decoder.conv_in.bias is missing"),
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
