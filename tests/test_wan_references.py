"""References on a small video model: beginnings on its own weights, frames and pictures to be shown by VACE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from wan_support import PICTURE, forbid_network, loaded

from workers.engines.wan import WanEngine
from workers.engines.wan.schedulers import SOLVERS
from workers.job import Guide, Picture
from workers.references.guide import FIRST, LAST, REFERENCE
from workers.tiny import wan as tiny
from workers.watch import Watch

pytestmark = pytest.mark.pipelines

SIZE = (64, 112)
FRAMES = 5


@pytest.fixture(autouse=True)
def _offline(monkeypatch) -> None:
    forbid_network(monkeypatch.setattr)


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    tiny.write(folder)
    tiny.write_vace(folder)
    return folder


@pytest.fixture(scope="module")
def engine(volume) -> WanEngine:
    return loaded(volume / tiny.FOLDER, vace=volume / tiny.VACE_FOLDER)


def frames(engine: WanEngine, watch: Watch | None = None, **wishes: Any) -> np.ndarray:
    media = "image" if wishes.get("frames", 1) == 1 else "video"
    [output] = engine.generate(replace(PICTURE, media=media, **wishes), watch or Watch())
    return output.frames.astype(int)


def drawn(seed: int, count: int = 1, size: tuple[int, int] = SIZE) -> Picture:
    """Broad patches of colour: what differs from seed to seed is to be seen in latents as well."""
    patches = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    pixels = patches.repeat(-(-size[1] // 4), 0).repeat(-(-size[0] // 4), 1)[: size[1], : size[0]]
    return Picture(size, pixels.tobytes() * count, count, str(seed))


def array(picture: Picture) -> np.ndarray:
    width, height = picture.size
    return np.frombuffer(picture.pixels, np.uint8).reshape(-1, height, width, 3)


def start(change: float, given: Picture) -> Guide:
    return Guide("start", change=change, pictures={REFERENCE: given})


def framed(**pictures: Picture) -> Guide:
    return Guide("frames", weight=1.0, pictures=pictures)


def theirs(engine: WanEngine, pipeline: str, transformer: Any, **wishes: Any) -> np.ndarray:
    """What the pipeline of diffusers makes of the same."""
    import diffusers

    ours = engine._pipeline
    scheduler = diffusers.UniPCMultistepScheduler.from_config(ours.scheduler.config, flow_shift=PICTURE.shift)
    parts = {"tokenizer": ours.tokenizer, "text_encoder": ours.text_encoder, "vae": ours.vae, "scheduler": scheduler}
    pipe = getattr(diffusers, pipeline)(**parts, transformer=transformer)
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        prompt=PICTURE.prompt,
        negative_prompt=PICTURE.negative_prompt,
        width=SIZE[0],
        height=SIZE[1],
        guidance_scale=PICTURE.guidance,
        generator=torch.Generator().manual_seed(PICTURE.seeds[0]),
        output_type="np",
        **wishes,
    )
    return (made.frames[0] * 255).round()


def pil(picture: Picture) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(pixels) for pixels in array(picture)]


@pytest.mark.parametrize("count", [1, 5])
def test_beginning_from_a_picture_or_clip_is_video_to_video_of_the_plain_pipeline(engine, count):
    given = drawn(1, count)
    expected = theirs(
        engine,
        "WanVideoToVideoPipeline",
        engine._pipeline.transformer,
        video=pil(given),
        num_inference_steps=4,
        strength=0.5,
    )
    assert abs(frames(engine, frames=count, steps=4, guide=start(0.5, given)) - expected).max() <= 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_more_change_leads_nearer_to_the_text(engine, solver):
    text = frames(engine, steps=8, solver=solver)
    moved = [frames(engine, steps=8, solver=solver, guide=start(change, drawn(1))) for change in (0.1, 0.4, 0.9)]
    distances = [abs(each - text).mean() for each in moved]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] / 3


@pytest.mark.parametrize("change", [0.0, 0.5])
def test_the_same_seed_and_picture_give_the_same_and_another_picture_another(engine, change):
    made = frames(engine, guide=start(change, drawn(1)))
    assert (frames(engine, guide=start(change, drawn(1))) == made).all()
    assert (frames(engine, guide=start(change, drawn(2))) != made).any()
    assert (frames(engine, guide=start(change, drawn(1)), seeds=(8,)) != made).any()


def test_a_schedule_solved_in_advance_starts_late_as_well(engine):
    from workers.engines.wan.denoise import denoise
    from workers.engines.wan.solve import Solved, solve

    def velocity(latents: Any, time: Any) -> Any:
        return latents * 0.7 + torch.sin(time / 100)

    schedule = ("unipc", 5.0, 10, 6)
    first = torch.randn(1, 16, 1, 4, 6, generator=torch.Generator().manual_seed(3))
    plain = denoise(velocity, engine._denoiser._scheduler(*schedule), first, Watch())
    table = solve(engine._denoiser._scheduler(*schedule), "cpu")
    assert len(table.timesteps) == 4
    assert torch.allclose(denoise(velocity, Solved(table, first), first, Watch()), plain, atol=2e-4)


def test_first_and_last_frames_are_given_as_the_vace_pipeline_gives_them(engine):
    first, last = drawn(1), drawn(2)
    grey, free, taken = (np.full((SIZE[1], SIZE[0], 3), value, np.float32) for value in (0.5, 1.0, 0.0))
    between = FRAMES - 2
    video = np.stack([array(first)[0] / 255, *[grey] * between, array(last)[0] / 255]).astype(np.float32)
    mask = np.stack([taken, *[free] * between, taken])
    expected = theirs(
        engine,
        "WanVACEPipeline",
        engine._vace.transformer,
        video=[video],
        mask=[mask],
        num_frames=FRAMES,
        num_inference_steps=2,
    )
    made = frames(engine, frames=FRAMES, steps=2, guide=framed(**{FIRST: first, LAST: last}))
    assert abs(made - expected).max() <= 1


def test_a_picture_is_shown_as_the_vace_pipeline_shows_it(engine):
    given = drawn(3, size=(64, 64))
    expected = theirs(
        engine,
        "WanVACEPipeline",
        engine._vace.transformer,
        reference_images=pil(given),
        conditioning_scale=0.7,
        num_frames=FRAMES,
        num_inference_steps=2,
    )
    guide = Guide("subject", weight=0.7, pictures={REFERENCE: given})
    made = frames(engine, frames=FRAMES, steps=2, guide=guide)
    assert made.shape == (FRAMES, SIZE[1], SIZE[0], 3), "what is shown is no part of the video"
    assert abs(made - expected).max() <= 2, "a pixel may be rounded twice where white surrounds the picture"


@pytest.mark.parametrize("role", [FIRST, LAST, REFERENCE])
def test_every_given_picture_counts_alone_and_beside_others(engine, role):
    others = {other: drawn(3) for other in (FIRST, LAST, REFERENCE) if other != role}
    for beside in ({}, others):
        one, other = (frames(engine, frames=5, steps=1, guide=framed(**beside, **{role: drawn(n)})) for n in (1, 2))
        assert (one != other).any()


def test_references_leave_no_trace_in_the_next_job(engine, volume):
    plain = loaded(volume / tiny.FOLDER)
    frames(engine, frames=5, steps=1, guide=framed(**{FIRST: drawn(1)}))
    frames(engine, guide=start(0.4, drawn(1)))
    assert (frames(engine) == frames(plain)).all()


def test_progress_counts_the_steps_that_are_made(engine):
    seen: list[tuple[str, int, int]] = []
    watch = Watch(on_step=lambda w: seen.append((w.current, w.done, w.total)))
    frames(engine, watch, steps=10, guide=start(0.2, drawn(1)))
    assert [step for step in seen if step[0] == "denoise"] == [("denoise", 1, 2), ("denoise", 2, 2)]
    assert "encode_image" in watch.timings


def test_without_vace_on_the_volume_only_beginnings_are_offered(engine, volume):
    assert engine.uses == {"start", "subject", "frames"}
    assert WanEngine(volume, device="cpu", vace=volume / "nowhere").uses == {"start"}
    assert WanEngine(volume, device="cpu").uses == {"start"}
