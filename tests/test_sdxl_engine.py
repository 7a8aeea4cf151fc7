"""The SDXL engine on a small checkpoint: the very code that production runs, on the processor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from offline import offline
from sdxl_support import digest, generate, pixels, tiny_engine
from transformers import CLIPTokenizer

from workers.engines.sdxl import SdxlEngine, encode, load, schedulers
from workers.engines.sdxl.engine import WARM_UP_NEGATIVE
from workers.errors import EngineBroken, Interrupted, Rejected
from workers.job import Job
from workers.local.supabase.payloads import NEGATIVE_PROMPT
from workers.prompting.prompt import compose
from workers.prompting.rules import load_rules
from workers.tables import load_presets
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
    ("solver", "scheduler", "changes"),
    [
        ("dpm++", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("unipc", "UniPCMultistepScheduler", {}),
        ("euler", "EulerDiscreteScheduler", {}),
    ],
)
def test_pictures_are_those_of_the_plain_pipeline(
    engine: SdxlEngine, solver: str, scheduler: str, changes: dict[str, Any]
) -> None:
    plain = diffusers.StableDiffusionXLPipeline.from_single_file(
        str(engine._checkpoint), config=str(engine._config), local_files_only=True, **load.tokenizers()
    )
    plain.set_progress_bar_config(disable=True)
    plain.scheduler = getattr(diffusers, scheduler).from_config(plain.scheduler.config, **changes)
    expected = plain(
        "a lighthouse at dusk",
        negative_prompt="blurry",
        width=64,
        height=64,
        num_inference_steps=4,
        guidance_scale=6.0,
        num_images_per_prompt=2,
        generator=[torch.Generator().manual_seed(seed) for seed in (7, 8)],
        output_type="np",
    ).images
    assert abs(pixels(engine, solver=solver, seeds=(7, 8)) - (expected * 255).round()).max() <= 1


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


ELSEWHERE = """
import pathlib, sys
from sdxl_support import digest, tiny_engine
from workers import garbage
garbage.search_seldom()
print(digest(tiny_engine(pathlib.Path(sys.argv[1])), seeds=(1, 2)))
"""


def test_another_process_gives_the_same_bits(engine: SdxlEngine, tmp_path: Path) -> None:
    tests = Path(__file__).parent
    env = {"PYTHONPATH": f"{tests}:{tests.parent}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=240)
    assert said.stdout.splitlines()[-1] == digest(engine, seeds=(1, 2))


def test_phases_are_timed_and_counts_noted(engine: SdxlEngine) -> None:
    watch = Watch()
    generate(engine, watch, prompt="a red bicycle", negative_prompt="blurry, grey")
    assert set(watch.timings) == {"encode_text", "denoise", "decode"}
    assert watch.notes == {"prompt_tokens": 3, "prompt_chunks": 1, "negative_tokens": 3, "negative_chunks": 1}


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


def test_warming_up_uses_the_models_own_size(engine: SdxlEngine) -> None:
    seen: set[tuple[int, ...]] = set()
    watch = Watch()
    with engine._pipeline.unet.register_forward_pre_hook(lambda _, arguments: seen.add(tuple(arguments[0].shape))):
        engine.warm_up(watch)
    assert seen == {(2 * images, 4, 16, 16) for images in (1, 6)}
    assert "warm_up" in watch.timings


def test_warming_up_reads_a_text_as_long_as_the_usual_jobs() -> None:
    tokenizer, preset = CLIPTokenizer.from_pretrained(load.SHIPPED / "tokenizer"), load_presets()["sdxl_image_fast"]
    job = Job(id="1", type=preset.type, user_id="2", prompt="a red bicycle", negative_prompt=NEGATIVE_PROMPT)
    usual, practised = (
        len(encode.reader(tokenizer)(negative))
        for negative in (compose(job, preset, load_rules(), rating="sfw").negative_prompt, WARM_UP_NEGATIVE)
    )
    assert usual == practised > 1


def test_a_batch_too_large_for_the_card_is_made_in_halves(engine: SdxlEngine) -> None:
    expected = pixels(engine, seeds=(1, 2, 3))
    with refusing_more_than(engine, images=2):
        assert abs(pixels(engine, seeds=(1, 2, 3)) - expected).max() <= 1


def test_a_batch_whose_half_is_too_large_asks_for_a_new_process(engine: SdxlEngine) -> None:
    with refusing_more_than(engine, images=0), pytest.raises(EngineBroken) as broken:
        generate(engine, seeds=(1, 2, 3))
    assert broken.value.exit_code == 71


def test_latents_that_are_not_numbers_are_an_error_and_no_picture(engine: SdxlEngine) -> None:
    spoiled = engine._pipeline.unet.register_forward_hook(lambda _, __, output: (output[0] * float("nan"),))
    with spoiled, pytest.raises(FloatingPointError):
        generate(engine)


def refusing_more_than(engine: SdxlEngine, *, images: int) -> Any:
    def check(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > 2 * images:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    return engine._pipeline.unet.register_forward_pre_hook(check)
