"""References on a small SDXL: what they change, how much, and that nothing of them stays behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sdxl_support import generate, pixels

from tests.drawn import halves
from workers.engines.sdxl import SdxlEngine, fast, schedulers, vae
from workers.engines.sdxl.adapter import AdapterFiles
from workers.errors import Interrupted, Misconfigured, Rejected
from workers.job import Guide, Picture
from workers.references.guide import REFERENCE
from workers.tiny import adapter as tiny_adapter
from workers.tiny import sdxl as tiny
from workers.watch import Watch

pytestmark = pytest.mark.pipelines

CHARACTER = "user/character"


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.write(folder)
    tiny_adapter.write(folder, (folder / tiny.CHECKPOINT).parent / "config" / "unet" / "config.json")
    return folder


def files(volume: Path, **hashes: str) -> AdapterFiles:
    return AdapterFiles(volume / tiny_adapter.WEIGHTS, volume / tiny_adapter.ENCODER, **hashes)


def loaded(volume: Path, **options: Any) -> SdxlEngine:
    engine = SdxlEngine(volume / tiny.CHECKPOINT, device="cpu", **options)
    engine.load(Watch())
    return engine


@pytest.fixture(scope="module")
def plain(volume: Path) -> np.ndarray:
    """The picture of an engine that knows of no adapter."""
    return pixels(loaded(volume))


@pytest.fixture(scope="module")
def engine(volume: Path) -> SdxlEngine:
    return loaded(volume, adapter=files(volume), characters=volume / "characters")


def picture(seed: int = 0, size: tuple[int, int] = (80, 48)) -> Picture:
    """Two halves for seed 0, else noise."""
    width, height = size
    drawn = (
        np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8) if seed else halves(width, height)
    )
    return Picture(size, drawn.tobytes(), sha256=f"{seed}-{width}")


def start(change: float, given: Picture | None = None) -> Guide:
    return Guide("start", change=change, pictures={REFERENCE: given or picture()})


def shown(use: Any, weight: float, seed: int = 0, character: str | None = None) -> Guide:
    return Guide(use, weight=weight, character=character, pictures={REFERENCE: picture(seed)})


@pytest.mark.parametrize("solver", schedulers.SOLVERS)
def test_beginning_from_a_picture_is_image_to_image_of_the_plain_pipeline(engine: SdxlEngine, solver: str) -> None:
    from diffusers import AutoPipelineForImage2Image

    given = picture(size=(64, 64))
    pipe = AutoPipelineForImage2Image.from_pipe(engine._pipeline)
    assert pipe.unet is engine._pipeline.unet, "the same weights, not others"
    pipe.set_progress_bar_config(disable=True)
    name, changes = schedulers.SOLVERS[solver]
    pipe.scheduler = getattr(__import__("diffusers"), name).from_config(engine._solvers.schedule, **changes)
    latents = pipe(
        "a lighthouse at dusk",
        negative_prompt="blurry",
        image=engine._start(replaced(given), Watch()),
        strength=0.5,
        num_inference_steps=4,
        guidance_scale=6.0,
        num_images_per_prompt=2,
        generator=[torch.Generator().manual_seed(seed) for seed in (7, 8)],
        output_type="latent",
        original_size=(64, 64),
        target_size=(64, 64),
    ).images
    expected = np.concatenate([vae.decode(pipe.vae, latents[i : i + 1]) for i in range(2)]).astype(int)
    ours = pixels(engine, solver=solver, steps=4, seeds=(7, 8), guide=start(0.5, given))
    assert abs(ours - expected).max() <= 1


def replaced(given: Picture) -> Any:
    from dataclasses import replace

    from sdxl_support import PARAMS

    return replace(PARAMS, guide=start(0.5, given))


def test_more_change_leads_further_from_the_picture_and_nearer_to_the_text(engine: SdxlEngine) -> None:
    wishes = {"steps": 10, "solver": "dpm++", "guidance": 1.0}
    text = pixels(engine, **wishes)
    given = vae.decode(engine._pipeline.vae, engine._start(replaced(picture()), Watch())).astype(int)
    made = [pixels(engine, guide=start(change), **wishes) for change in (0.1, 0.3, 0.5, 0.7, 0.9)]
    to_text = [abs(each - text).mean() for each in made]
    assert to_text[1:] == sorted(to_text[1:], reverse=True)
    assert to_text[-1] < to_text[0] / 4
    to_picture = [abs(each - given).mean() for each in made[:3]]
    assert to_picture == sorted(to_picture)
    assert to_picture[0] < to_picture[-1] * 0.75


@pytest.mark.parametrize("change", [0.0, 1.0])
def test_at_either_end_the_picture_still_counts(engine: SdxlEngine, change: float) -> None:
    one, other = (pixels(engine, guide=start(change, picture(seed))) for seed in (0, 1))
    assert (one != other).any()


@pytest.mark.parametrize(("images", "guide"), [(6, start(0.6)), (3, shown("character", 0.8))])
def test_each_picture_of_a_batch_is_the_one_that_its_seed_gives_alone(
    engine: SdxlEngine, images: int, guide: Guide
) -> None:
    seeds = tuple(range(40, 40 + images))
    together = pixels(engine, seeds=seeds, guide=guide)
    assert abs(together[-1] - pixels(engine, seeds=seeds[-1:], guide=guide)[0]).max() <= 1
    assert (together[0] != together[-1]).any()


def test_a_picture_of_any_size_fills_the_jobs(engine: SdxlEngine) -> None:
    for size in ((30, 200), (1, 1)):
        (output,) = generate(engine, steps=2, width=96, height=64, guide=start(0.5, picture(size=size)))
        assert output.frames.shape == (1, 64, 96, 3)


def test_a_picture_is_encoded_once_for_a_batch_and_progress_counts_the_steps_that_are_made(engine: SdxlEngine) -> None:
    seen: list[tuple[str, int, int]] = []
    watch = Watch(on_step=lambda w: seen.append((w.current, w.done, w.total)))
    generate(engine, watch, seeds=(1, 2), steps=10, guide=start(0.3))
    assert [step for step in seen if step[0] == "denoise"] == [("denoise", i, 3) for i in (1, 2, 3)]
    assert {"encode_text", "encode_image", "denoise", "decode"} == set(watch.timings)


def test_without_a_reference_an_adapter_changes_no_bit(engine: SdxlEngine, plain: np.ndarray) -> None:
    assert (pixels(engine) == plain).all()
    for guide in (start(0.4), shown("character", 1.0), shown("style", 1.0)):
        pixels(engine, guide=guide)
        assert (pixels(engine) == plain).all()


@pytest.mark.parametrize("use", ["character", "style"])
def test_what_is_shown_counts_by_its_weight(engine: SdxlEngine, plain: np.ndarray, use: Any) -> None:
    moved = [abs(pixels(engine, guide=shown(use, weight)) - plain).mean() for weight in (0.0, 0.4, 1.0)]
    assert moved[0] == 0
    assert moved == sorted(set(moved))
    assert (pixels(engine, guide=shown(use, 1.0, seed=1)) != pixels(engine, guide=shown(use, 1.0, seed=2))).any()


def test_a_style_reaches_fewer_layers_than_a_character(engine: SdxlEngine, plain: np.ndarray) -> None:
    style, character = (abs(pixels(engine, guide=shown(use, 1.0)) - plain).mean() for use in ("style", "character"))
    assert 0 < style < character


def test_a_picture_is_shown_without_guidance_too(engine: SdxlEngine) -> None:
    assert (pixels(engine, guidance=1.0, guide=shown("character", 1.0)) != pixels(engine, guidance=1.0)).any()


def test_the_fast_layers_begin_from_a_picture_too_and_step_aside_while_one_is_shown(engine, volume) -> None:
    hastened = loaded(volume, adapter=files(volume))
    fast.hasten(hastened._pipeline)
    forward = hastened._pipeline.unet.forward
    for guide in (start(0.5), shown("character", 1.0)):
        assert abs(pixels(hastened, guide=guide) - pixels(engine, guide=guide)).max() <= 2
        assert hastened._pipeline.unet.forward == forward


def test_an_interrupted_job_takes_the_adapter_away_again(engine: SdxlEngine, plain: np.ndarray) -> None:
    def stop(watch: Watch) -> None:
        if watch.current == "denoise":
            watch.abort(Interrupted())

    with pytest.raises(Interrupted):
        generate(engine, Watch(on_step=stop), guide=shown("character", 1.0))
    assert (pixels(engine) == plain).all()


def test_a_character_is_looked_at_once_and_remembered_by_later_processes(engine, volume, monkeypatch) -> None:
    with_picture = pixels(engine, guide=shown("character", 0.8, 3, CHARACTER))
    monkeypatch.setattr(engine._adapter, "see", lambda _: pytest.fail("looked at again"))
    watch = Watch()
    (again,) = generate(engine, watch, guide=Guide("character", weight=0.8, character=CHARACTER))
    assert (again.frames == with_picture).all()
    assert watch.notes["reference_sha256"] == {REFERENCE: picture(3).sha256}
    pixels(engine, guide=shown("character", 0.8, 3, CHARACTER))
    later = loaded(volume, adapter=files(volume), characters=volume / "characters")
    assert (pixels(later, guide=Guide("character", weight=0.8, character=CHARACTER)) == with_picture).all()


def test_another_picture_of_a_character_takes_the_place_of_the_first(engine: SdxlEngine) -> None:
    first = pixels(engine, guide=shown("character", 0.8, 4, "user/changing"))
    second = pixels(engine, guide=shown("character", 0.8, 5, "user/changing"))
    assert (first != second).any()
    assert (pixels(engine, guide=Guide("character", weight=0.8, character="user/changing")) == second).all()


def test_an_unknown_character_is_refused_with_a_sentence(engine: SdxlEngine) -> None:
    with pytest.raises(Rejected, match="no reference image yet"):
        generate(engine, guide=Guide("character", character="user/unknown"))


def test_without_an_adapter_on_the_volume_only_beginnings_are_offered(engine: SdxlEngine, tmp_path: Path) -> None:
    missing = AdapterFiles(tmp_path / "adapter.safetensors", tmp_path / "encoder")
    assert SdxlEngine(tmp_path / "sdxl", device="cpu", adapter=missing).uses == {"start"}
    assert engine.uses == {"start", "style", "character"}


@pytest.mark.parametrize("spoil", ["other", "torn"])
def test_an_adapter_that_is_not_the_named_one_is_not_used(volume: Path, tmp_path: Path, spoil: str) -> None:
    shutil.copytree(volume / tiny_adapter.FOLDER, tmp_path / tiny_adapter.FOLDER)
    weights = tmp_path / tiny_adapter.WEIGHTS
    if spoil == "torn":
        weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(Misconfigured, match=weights.name):
        files(tmp_path, weights_hash="0" * 64 if spoil == "other" else None).check()
