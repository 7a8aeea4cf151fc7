"""The measurements of speed run without a card, on small weights, and their table says what they say."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

QWEN = ("bench.qwen", "--tokens", "16", "--runs", "1")
WAN = ("bench.wan", "--steps", "2", "--runs", "1", "--runs-of-video", "0", "--runs-of-whole-video", "0")


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """What a bench prints. It runs here, where torch is loaded already: loading takes longer than all it measures."""

    def run(module: str, *arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [module, *arguments, "--small"])
        importlib.import_module(module).main()
        return capsys.readouterr().out.splitlines()

    return run


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.pipelines
@pytest.mark.parametrize(("command", "what"), [(QWEN, "16 tokens"), (WAN, "1 frame, 2 steps")], ids=["qwen", "wan"])
def test_a_bench_prints_a_row_with_both_times_and_the_fidelity(
    printed: Callable[..., list[str]], command: tuple[str, ...], what: str
) -> None:
    lines = printed(*command)
    head, _, row = [cells(line) for line in lines if line.startswith("|")]
    assert row[0] == what
    assert len(row) == len(head)
    assert all("n=1" in times for times in row[1:3])
    assert row[-1]


@pytest.mark.pipelines
def test_what_turbo_saves_is_a_row_for_each_preset_that_has_one(printed: Callable[..., list[str]]) -> None:
    asked = ("sdxl_image_fast", "video_fast", "--runs", "1", "--steps", "2")
    rows = [cells(line) for line in printed("bench.turbo", *asked)[1:]]
    assert [row[0].split(",")[0] for row in rows[2:]] == ["sdxl_image_fast", *["video_fast"] * 4]
    by = ["reuse 0.12 by magnitude", "reuse 0.2 by spectrum"]
    own = ["guided 0 to 0.7", "guided 0 to 0.7, reuse 0.08 by first block"]
    assert [row[1] for row in rows[2:]] == [*own, *by, "fp8"]
    assert all(row[-1].endswith(" dB") for row in rows[2:])


@pytest.mark.pipelines
def test_what_marks_outlive_and_cost_is_a_table_for_each_kind_of_picture(printed: Callable[..., list[str]]) -> None:
    sizes = ("--count", "1", "--clips", "1", "--frames", "5", "--unmarked", "2", "--runs", "1", "--device", "cpu")
    lines = printed("bench.provenance", *sizes)
    rows = {cells(line)[0]: cells(line) for line in lines if line.startswith("|")}
    assert rows["the file itself"][1] >= "0.5"
    assert {"JPEG 75", "half of it", "a screenshot", "the thumbnail", "MP4 crf 28", "sign, a file .mp4"} <= rows.keys()
    assert any(line.startswith("unmarked: 2; led to a job: 0") for line in lines)


def test_times_are_taken_in_turn_and_the_first_round_does_not_count() -> None:
    from bench.frame import interleaved

    order: list[str] = []
    cases = {name: lambda name=name: order.append(name) for name in ("plain", "ours")}
    times = interleaved(cases, 3, "cpu")
    assert order == ["plain", "ours"] * 4
    assert [len(taken.runs) for taken in times.values()] == [3, 3]


def test_a_row_says_how_often_ours_fits_into_plain_and_how_near_the_floor_it_is() -> None:
    from bench.frame import Row, Times

    row = cells(str(Row("a clip", Times([4.0, 8.0, 6.0]), Times([2.0, 3.0, 4.0]), floor=1.5, fidelity="50 dB")))
    assert row == ["a clip", "6.000 (4-8, n=3)", "3.000 (2-4, n=3)", "2.00", "1.50", "50%", "50 dB"]


def test_decibels_grow_as_pictures_come_closer() -> None:
    import torch

    from bench.frame import psnr

    truth = torch.full((8, 8), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0)
    assert psnr(truth + 0.01, truth) == pytest.approx(40.0)


@pytest.fixture
def random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A model's folder as for a card, but for the sizes."""
    from bench import checkpoints
    from workers.tiny import qwen, sdxl, wan

    sdxl.write_config(tmp_path / "config" / "sdxl")
    wan.write_config(tmp_path / "config" / "wan")
    monkeypatch.setattr(checkpoints, "CONFIG_DIR", tmp_path / "config")
    monkeypatch.setattr("workers.engines.sdxl.load.config_for", lambda checkpoint: tmp_path / "config" / "sdxl")
    monkeypatch.setattr(checkpoints, "TRUE", {**qwen.SIZE, "vocab_size": 512, "tie_word_embeddings": False})
    return lambda model: checkpoints.ready(model, tmp_path, "cpu", small=False)


@pytest.mark.pipelines
@pytest.mark.parametrize("model", ["sdxl", "wan", "qwen"])
def test_a_start_with_random_weights_is_measured_by_phase(random_weights: Callable[[str], Path], model: str) -> None:
    from bench import loading, phases

    home = random_weights(model)
    facts = phases.measure(model, "again", home, "cpu", None, time.monotonic() - 1)
    phases = ("process", "read", "rest", "fuse", "warm_up")
    assert facts["process"] >= 1
    assert facts["ready"] == pytest.approx(sum(facts[phase] for phase in phases), abs=0.01)
    row = cells(loading.row(model, "again", facts))
    assert len(row) == len(cells(loading.HEAD))
    assert row[0] == f"{model}, again"


@pytest.mark.pipelines
def test_a_throttled_start_shows_that_the_rate_was_held_and_says_how(printed: Callable[..., list[str]]) -> None:
    lines = printed("bench.loading", "--models", "sdxl", "--starts", "throttled", "--disk-rate", "20")
    head, _, row = [cells(line) for line in lines if line.startswith("|")]
    found = dict(zip(head, row, strict=True))
    assert found["model, start"] == "sdxl, throttled"
    assert float(found["GB"]) == 0.02
    assert float(found["GB/s"]) <= 0.03, "both are rounded; without the limit it is ten times as much"
    assert found["warm-up"]
    assert lines[-1].startswith("throttled: ")
    assert "20 million a second from one bucket for all reading threads" in lines[-1]


def test_a_disk_of_a_known_rate_serves_one_after_the_other_and_saves_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bench import disk

    now = [100.0]
    monkeypatch.setattr(disk, "time", SimpleNamespace(monotonic=lambda: now[0]))
    bucket = disk.Bucket(rate=10.0)
    assert [bucket.due(size) for size in (20, 5, 5)] == [102.0, 102.5, 103.0]
    now[0] = 200.0
    assert bucket.due(10) == 201.0


@pytest.mark.pipelines
def test_all_readers_together_read_no_faster_than_the_disk_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import save_file

    from bench.disk import throttled
    from workers.card import loader

    monkeypatch.setattr(loader, "BLOCK", 1000)
    weights = {"wide": torch.randn(16, 1000)}
    save_file(weights, tmp_path / "weights")
    with throttled(rate=320_000):
        began = time.monotonic()
        read = loader.load([tmp_path / "weights"], "cpu", lambda name: torch.float32, lambda done, total: None)
        assert time.monotonic() - began >= 0.2
    assert torch.equal(read["wide"], weights["wide"])


@pytest.mark.pipelines
@pytest.mark.parametrize(("model", "frames"), [("sdxl", 1), ("wan", 5)])
def test_what_random_weights_make_is_no_failure_to_be_made_again(
    random_weights: Callable[[str], Path], model: str, frames: int
) -> None:
    from bench import phases
    from workers.engines.practice import practice
    from workers.making import flaws
    from workers.watch import Watch

    engine = phases.ENGINES[model](random_weights(model), "cpu", None)
    engine.load(Watch())
    asked = practice(256, 256, frames=frames, steps=2)
    (output,) = engine.generate(asked, Watch())
    assert flaws.find(output, asked) is None


@pytest.mark.parametrize(("job_type", "steps"), [("video_fast", 5), ("sdxl_image_fast", 15)])
def test_clips_of_the_idle_measurement_have_the_steps_that_were_asked_for(job_type: str, steps: int) -> None:
    from bench.deliveries import Queue, asked
    from workers import payload
    from workers.local.supabase.payloads import Request, july
    from workers.resolve import resolve
    from workers.tables import load_presets

    preset, config = load_presets()[job_type], asked(Queue([job_type], jobs=1, latency=0.0, steps=5), job_type, 0)
    request = Request(str(UUID(int=1)), str(UUID(int=2)), preset, config.pop("prompt"), config=config)
    assert resolve(payload.parse(july(request)), preset).steps == steps


def test_idle_shares_are_of_the_time_from_the_first_claim_to_the_last_pixels() -> None:
    from bench.idle import Job, Look, Run

    def job(claimed: float, idle_share: float) -> Job:
        timings = {"wait": 9.0, "denoise": 6.0, "decode": 2.0, "upload": 4.0}
        return Job(claimed, claimed + 10, claimed + 15, {"timings": timings, "idle_share": idle_share})

    looks = [Look(at, busy, None, 0) for at, busy in [(99, 0), (101, 60), (119, 80), (121, 0)]]
    run = Run([job(100, idle_share=0.9), job(110, idle_share=0.25)], looks, [])
    assert run.idle == pytest.approx({"phases": 0.2, "worker": 0.25, "driver": 0.3})
    assert run.overlap.ratio == pytest.approx(25 / (16 + 4))


@pytest.mark.pipelines
def test_random_weights_are_written_as_the_formats_own_library_reads_them(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from bench.checkpoints import save

    state = {"half": torch.empty(7, 3, device="meta"), "full": torch.empty(5, device="meta")}
    save(tmp_path / "new", state, lambda name: torch.float32 if name == "full" else torch.bfloat16, "cpu")
    found = load_file(tmp_path / "new")
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in found.items()} == {
        "half": (torch.bfloat16, (7, 3)),
        "full": (torch.float32, (5,)),
    }
    assert all(0 < tensor.float().abs().mean() < 0.1 for tensor in found.values())
