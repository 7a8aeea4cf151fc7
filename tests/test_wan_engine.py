"""The video model's engine: what is asked for, and nothing else, decides the pixels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest
from wan_support import PICTURE, forbid_network, loaded

from workers.card import gpu, host, weights
from workers.engines.wan import WanEngine, pipeline
from workers.engines.wan.encode import LENGTHS, TextEncoder, token_ids, windows
from workers.engines.wan.graphs import Window
from workers.errors import Cancelled, EngineBroken, Interrupted, Misconfigured, Rejected
from workers.tiny import wan as tiny
from workers.watch import Watch

pytestmark = pytest.mark.pipelines

TESTS = Path(__file__).parent
CHILD = TESTS / "children" / "wan_pixels.py"
FOR_CHILDREN = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
HEAVY = ("torch", "numpy", "diffusers", "transformers")


@pytest.fixture(autouse=True)
def _offline(monkeypatch) -> None:
    forbid_network(monkeypatch.setattr)


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    tiny.write(folder)
    return folder


@pytest.fixture(scope="module")
def children(volume) -> list[dict]:
    """Two processes that started at the same time on a volume without a conversion."""
    command = [sys.executable, str(CHILD), str(volume / tiny.FOLDER)]
    started = [subprocess.Popen(command, env=FOR_CHILDREN, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return [json.loads(child.communicate(timeout=240)[0].splitlines()[-1]) for child in started]  # after events


@pytest.fixture(scope="module")
def engine(volume, children) -> WanEngine:
    return loaded(volume / tiny.FOLDER)


@pytest.fixture(scope="module")
def picture(engine):
    return frames(engine)


def frames(engine: WanEngine, watch: Watch | None = None, **wishes):
    """The pixels of one output: shape (frames, height, width, 3)."""
    [output] = engine.generate(replace(PICTURE, **wishes), watch or Watch())
    return output.frames


def stop_in(phase: str, done: int, error: Exception) -> Watch:
    def on_step(watch: Watch) -> None:
        if (watch.current, watch.done) == (phase, done):
            watch.abort(error)

    return Watch(on_step=on_step)


def test_of_two_processes_one_converts_and_the_other_waits(children):
    assert sorted(child["converted"] for child in children) == [False, True]


def test_every_process_paints_the_same_pixels(children):
    assert children[0]["pixels"] == children[1]["pixels"]


def test_both_layouts_paint_the_same_pixels(picture, tmp_path):
    tiny.write_diffusers(tmp_path)
    difference = abs(frames(loaded(tmp_path / tiny.FOLDER)).astype(int) - picture)
    assert difference.max() <= 1, "one, because processors round by how a file happens to align its tensors"
    assert (difference > 0).mean() < 0.001
    assert [path.name for path in tmp_path.iterdir()] == [tiny.FOLDER], "nothing was converted"


def test_a_picture_is_one_frame_in_host_memory(picture):
    assert picture.shape == (1, 112, 64, 3)
    assert picture.dtype == "uint8"
    assert picture.flags.c_contiguous


def test_a_clip_has_81_frames_that_differ(engine):
    clip = frames(engine, frames=81, steps=25)
    assert clip.shape == (81, 112, 64, 3)
    assert (clip[0] != clip[40]).any()
    assert clip.std() > 30, "small weights paint something to look at"


def test_the_same_wishes_paint_the_same_pixels(engine, picture):
    assert (frames(engine) == picture).all()


@pytest.mark.parametrize(
    "wish",
    [
        {"prompt": "a lighthouse at dusk"},
        {"negative_prompt": "watermark"},
        {"seeds": (8,)},
        {"seeds": (2**32 - 1,)},
        {"solver": "dpm++"},
        {"solver": "euler"},
        {"shift": 8.0},
        {"guidance": 1.0},
        {"guidance": 9.0},
        {"steps": 12},
    ],
    ids=str,
)
def test_every_wish_changes_the_pixels(wish, engine, picture):
    assert (frames(engine, **wish) != picture).mean() > 0.1


def test_a_size_is_generated_as_asked(engine):
    assert frames(engine, width=112, height=64).shape == (1, 64, 112, 3)


def test_no_job_leaves_a_trace_in_the_next(engine, picture):
    for solver in ("euler", "dpm++"):
        frames(engine, solver=solver, shift=9.0, frames=5)
    assert (frames(engine) == picture).all()


def test_without_a_shift_the_model_uses_its_own(engine):
    assert (frames(engine, shift=None) == frames(engine, shift=3.0)).all()


@pytest.mark.parametrize("solver", ["unipc", "dpm++", "euler"])
def test_one_step_is_enough_for_every_solver(solver, engine):
    assert frames(engine, solver=solver, steps=1).std() > 10


def test_several_seeds_paint_what_each_paints_alone(engine, picture):
    outputs = engine.generate(replace(PICTURE, seeds=(7, 8)), Watch())
    assert [(output.index, output.seed) for output in outputs] == [(0, 7), (1, 8)]
    assert (outputs[0].frames == picture).all()
    assert (outputs[1].frames == frames(engine, seeds=(8,))).all()


def test_the_pixels_are_the_pipelines_own(engine, picture):
    import torch
    from diffusers import UniPCMultistepScheduler

    pipe = engine._pipeline
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=PICTURE.shift)
    video = pipe(
        prompt=PICTURE.prompt,
        negative_prompt=PICTURE.negative_prompt,
        width=PICTURE.width,
        height=PICTURE.height,
        num_frames=1,
        num_inference_steps=PICTURE.steps,
        guidance_scale=PICTURE.guidance,
        generator=torch.Generator().manual_seed(PICTURE.seeds[0]),
        output_type="np",
    ).frames[0]
    assert ((video * 255).round().astype("uint8") == picture).all()


@pytest.mark.parametrize(
    "text",
    ["", "a red bicycle", "  two\n\ndogs &amp; a ball  ", "色调艳丽，过曝", "a lighthouse " * 40],
    ids=["empty", "plain", "untidy", "chinese", "long"],
)
def test_embeddings_are_bit_equal_to_the_pipelines(text, engine):
    import torch

    with torch.no_grad():
        theirs, negative = engine._pipeline.encode_prompt(text, "blurry", max_sequence_length=512)
    ours = engine._text.encode(text, "blurry").inputs
    assert ours["prompt_embeds"].equal(theirs)
    assert ours["negative_prompt_embeds"].equal(negative)


def test_text_that_comes_again_is_not_encoded_again(engine):
    calls = []
    hook = engine._pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    for seed in (1, 2):
        frames(engine, prompt="a bowl of oranges", seeds=(seed,))
    hook.remove()
    assert len(calls) == 1, "the negative prompt was known, the prompt was read once"


def test_tokens_are_counted_without_the_end_mark(engine):
    assert engine.count_tokens("") == 0
    assert engine.count_tokens("a red bicycle " * 2) == 2 * engine.count_tokens("a red bicycle")


def test_a_text_of_more_than_512_tokens_is_read_to_its_last_word(engine):
    watch, text = Watch(), "a red bicycle, " * 300
    morning = frames(engine, watch, prompt=f"{text} soft morning light", frames=5)
    assert watch.notes["prompt_tokens"] == engine.count_tokens(f"{text} soft morning light") > 511
    assert watch.notes["prompt_chunks"] > 1
    assert watch.notes["negative_chunks"] == 1
    assert (frames(engine, prompt=f"{text} a calm sea, wide shot", frames=5) != morning).any()


def test_a_text_of_one_window_is_bit_equal_to_the_pipelines_own_and_a_longer_one_begins_with_it(engine):
    import torch

    encoder, start = TextEncoder(engine._pipeline, "cpu"), "a red bicycle, " * 20
    ids = token_ids(start, engine._pipeline.tokenizer)
    with torch.no_grad():
        theirs, _ = engine._pipeline.encode_prompt(start, do_classifier_free_guidance=False, max_sequence_length=512)
        assert torch.equal(encoder.encode(start, None).inputs["prompt_embeds"], theirs)
        assert torch.equal(encoder._window(ids), theirs)
    both = encoder.encode(start * 30, "blurry").inputs
    assert both["prompt_embeds"].shape == both["negative_prompt_embeds"].shape
    assert not both["negative_prompt_embeds"][:, 512:].any()


@pytest.mark.parametrize("words", [0, 7, 40, 90, 170])
def test_a_window_of_any_length_reads_a_text_alike_and_again(words, engine):
    import torch

    pipeline = engine._pipeline
    ids = token_ids("a red bicycle at dusk " * words, pipeline.tokenizer)[: 2 * words]
    whole, *shorter = [Window(pipeline.text_encoder, pipeline.tokenizer, length) for length in reversed(LENGTHS)]
    with torch.no_grad():
        for window in (window for window in shorter if len(ids) < window.length):
            window(ids[: words // 2])
            assert torch.allclose(window(ids), whole(ids), atol=1e-5)


def test_the_shortest_window_that_is_ready_reads_a_text(engine):
    encoder, asked = TextEncoder(engine._pipeline, "cpu"), []
    encoder._windows = [Window(engine._pipeline.text_encoder, engine._pipeline.tokenizer, length) for length in LENGTHS]
    hook = engine._pipeline.text_encoder.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].shape[1]))
    tokens = engine.count_tokens("a red bicycle, ")
    for length in LENGTHS:
        encoder.encode("a red bicycle, " * (length * 3 // 4 // tokens), None)
    hook.remove()
    assert asked == list(LENGTHS)


def test_windows_end_at_punctuation_and_lose_no_token(engine):
    tokenizer = engine._pipeline.tokenizer
    ids = token_ids("a red bicycle leaning on a white wall, " * 90, tokenizer)
    parts = windows(ids, tokenizer)
    assert [token for part in parts for token in part] == ids
    assert all(len(part) <= 511 for part in parts)
    assert all(tokenizer.convert_ids_to_tokens(part)[-1].endswith(",") for part in parts)


def test_without_guidance_the_negative_prompt_is_not_read(engine):
    watch = Watch()
    first = frames(engine, watch, guidance=1.0)
    assert (frames(engine, guidance=1.0, negative_prompt="watermark") == first).all()
    assert "negative_tokens" not in watch.notes


def test_phases_are_timed_and_every_step_is_told(engine):
    seen = []
    watch = Watch(on_step=lambda watch: seen.append((watch.current, watch.done, watch.total)))
    frames(engine, watch, frames=9)
    assert list(watch.timings) == ["encode_text", "denoise", "decode"]
    assert seen == [("denoise", i, 4) for i in (1, 2, 3, 4)] + [("decode", i, 3) for i in (1, 2, 3)]


@pytest.mark.parametrize("error", [Interrupted(), Cancelled()], ids=lambda e: type(e).__name__)
def test_a_job_stopped_at_a_step_is_not_decoded_and_the_next_one_is_unharmed(error, engine, picture):
    watch = stop_in("denoise", 2, error)
    with pytest.raises(type(error)):
        frames(engine, watch)
    assert "decode" not in watch.timings
    assert (frames(engine) == picture).all()


def test_a_job_stopped_between_decoded_frames_leaves_the_next_one_unharmed(engine, picture):
    with pytest.raises(Interrupted):
        frames(engine, stop_in("decode", 2, Interrupted()), frames=9)
    assert (frames(engine) == picture).all()


def test_an_unknown_solver_is_the_jobs_fault(engine):
    with pytest.raises(Rejected, match="solver"):
        frames(engine, solver="ddim")


def test_a_clip_that_does_not_fit_is_decoded_in_tiles(engine, monkeypatch):
    import torch

    vae, tiled = engine._pipeline.vae, []
    decode = vae.decode

    def crowded(*args, **kwargs):
        tiled.append(vae.use_tiling)
        if len(tiled) == 1:
            raise torch.OutOfMemoryError("no room")
        return decode(*args, **kwargs)

    monkeypatch.setattr(vae, "decode", crowded)
    assert frames(engine, frames=5).shape == (5, 112, 64, 3)
    assert tiled == [False, True]


def test_a_card_without_room_twice_needs_a_new_process(engine):
    import torch

    def crowded(*_):
        raise torch.OutOfMemoryError("no room")

    hook = engine._pipeline.transformer.register_forward_pre_hook(crowded)
    with pytest.raises(EngineBroken) as caught:
        frames(engine)
    hook.remove()
    assert caught.value.exit_code == 71


def test_values_that_are_not_numbers_never_become_pixels(engine):
    hook = engine._pipeline.transformer.register_forward_hook(lambda _m, _i, out: (out[0] * float("nan"),))
    with pytest.raises(FloatingPointError):
        frames(engine)
    hook.remove()


def test_a_text_encoder_with_an_untied_embedding_is_refused():
    from transformers import UMT5Config, UMT5EncoderModel

    encoder = UMT5EncoderModel(UMT5Config(**tiny.SIZES["text_encoder"]))
    pipeline.require_tied(encoder)
    encoder.encoder.embed_tokens.weight = encoder.shared.weight.__class__(encoder.shared.weight.clone())
    with pytest.raises(Misconfigured, match="not tied"):
        pipeline.require_tied(encoder)


def test_warming_up_runs_every_shape_that_jobs_will_ask_for(volume):
    engine = loaded(volume / tiny.FOLDER, warm_up_shapes=[(64, 112, 1), (112, 64, 5)])
    seen = []
    hook = engine._pipeline.vae.decoder.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[2:])))
    watch = Watch()
    engine.warm_up(watch)
    hook.remove()
    assert seen == [(1, 112, 64), (1, 64, 112), (4, 64, 112)]
    assert watch.timings["warm_up"] > 0


def test_what_is_loaded_next_is_read_while_the_engine_warms_up(volume, monkeypatch):
    asked = SimpleQueue()
    monkeypatch.setattr(weights, "read_ahead", lambda paths, go_on: asked.put(paths))
    loaded(volume / tiny.FOLDER, read_next=[volume / "enhancer"]).warm_up(Watch())
    assert asked.get(timeout=60) == [volume / "enhancer"]


def test_an_unloaded_engine_says_so(volume):
    engine = loaded(volume / tiny.FOLDER)
    engine.unload()
    with pytest.raises(RuntimeError, match="before load"):
        frames(engine)


def test_importing_the_engine_imports_nothing_heavy():
    code = f"import sys, workers.engines.wan, workers.tiny.wan; print(set({HEAVY}) & set(sys.modules))"
    printed = subprocess.check_output([sys.executable, "-c", code], env=FOR_CHILDREN, text=True)
    assert printed.strip() == "set()"


def test_a_shape_that_warm_up_did_not_know_is_rehearsed_once_a_job_has_asked_for_it(volume):
    engine = loaded(volume / tiny.FOLDER, warm_up_shapes=[(64, 112, 1)])
    engine.warm_up(Watch())
    frames(engine)
    assert not engine.unrehearsed
    frames(engine, width=112, height=64)
    assert engine.unrehearsed
    engine.rehearse(Watch())
    assert not engine.unrehearsed


@pytest.mark.parametrize("eight_bits", [False, True])
def test_a_clip_of_an_unknown_shape_needs_a_rehearsal_only_for_8_bits(volume, eight_bits):
    engine = loaded(volume / tiny.FOLDER, eight_bits=eight_bits)
    engine.generate(replace(PICTURE, frames=5), Watch())
    assert engine.unrehearsed is eight_bits


def test_a_rehearsal_that_fails_is_not_repeated(volume, monkeypatch):
    engine = loaded(volume / tiny.FOLDER)
    frames(engine)
    monkeypatch.setattr(engine._denoiser, "prepare", raising(RuntimeError("no compiler")))
    engine.rehearse(Watch())
    assert not engine.unrehearsed


@pytest.mark.parametrize(("total", "parked"), [(100, True), (10**12, False)], ids=["small", "large"])
def test_on_a_card_too_small_for_all_the_text_encoder_waits_elsewhere_and_reads_the_same(
    volume, picture, monkeypatch, total, parked
):
    visits, visiting = [], host.visiting
    monkeypatch.setattr(gpu, "memory", lambda _: gpu.Memory(total=total, free=total, peak=0))
    monkeypatch.setattr(host, "visiting", lambda *at: visits.append(at[0][0]) or visiting(*at))
    engine = loaded(volume / tiny.FOLDER, leave=200)
    assert (frames(engine) == picture).all()
    assert visits == [engine._pipeline.text_encoder] * 2 * parked
    frames(engine)
    assert len(visits) == 2 * parked  # both texts are remembered


def raising(error: Exception):
    def fail(*_: object) -> None:
        raise error

    return fail
