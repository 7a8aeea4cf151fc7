"""The next generation runs while finished jobs are being delivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import deliveries
from bench.overlap import TINY, TYPE, Overlap, fake, measure

pytestmark = pytest.mark.ring2

LATENCY = 4.0
"""Of each upload: long beside all that a busy machine may be late with."""


def is_hidden(result: Overlap) -> bool:
    """Whether all took less than half of what it takes to make and deliver one job after the other."""
    assert result.delivery >= LATENCY
    return result.wall < (result.making + result.jobs * result.delivery) / 2


def test_batches_of_six_hide_the_delivery_of_those_before(models: Path):
    result = measure(fake(steps=10, seconds=0.05), models, images=6, jobs=6, latency=LATENCY, known=0.5)
    assert is_hidden(result), str(result)


def test_quick_single_pictures_hide_uploads_that_last_longer_than_their_making(models: Path):
    result = measure(TINY, models, images=1, jobs=10, latency=LATENCY)
    assert is_hidden(result), str(result)


def test_both_accounts_of_a_true_worker_say_that_it_does_not_wait_for_uploads(models: Path, tmp_path: Path):
    queue = deliveries.Queue([TYPE], jobs=2, latency=LATENCY)
    volume = {"MODEL_ROOT": str(models), "DEVICE": "cpu", "WATERMARK": "false"}
    run = deliveries.measure("sdxl", queue, volume, tmp_path / "log")
    waiting = LATENCY / (LATENCY + run.span / queue.jobs)
    assert run.overlap.delivery >= LATENCY
    assert all(share < waiting / 2 for share in run.idle.values()), run.idle
    assert run.facts()["host_gb"] > 0
    assert run.facts()["made_again"] == 0


def test_a_worker_that_ends_at_its_start_ends_the_measurement(tmp_path: Path):
    queue = deliveries.Queue([TYPE], jobs=1, latency=LATENCY)
    with pytest.raises(RuntimeError, match=r"exit code is [1-9]"):
        deliveries.measure("sdxl", queue, {"MODEL_ROOT": str(tmp_path), "DEVICE": "cpu"}, tmp_path / "log")
