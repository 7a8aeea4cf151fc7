"""The next generation runs while finished jobs are being delivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.overlap import TINY, fake, measure

pytestmark = pytest.mark.ring2

LIMIT = 1.15
"""Of the generations one after the other and one delivery."""


def test_batches_of_six_hide_the_delivery_of_those_before(models: Path):
    result = measure(fake(steps=10, seconds=0.05), models, images=6, jobs=6, latency=1.0, known=0.5)
    assert result.ratio <= LIMIT, str(result)


def test_quick_single_pictures_hide_uploads_that_last_longer_than_their_making(models: Path):
    """Here making and marking share the cores with whatever else runs, so this holds the order of things only."""
    result = measure(TINY, models, images=1, jobs=10, latency=2.0)
    assert result.wall < (result.making + result.jobs * result.delivery) / 2, str(result)
    assert result.delivery >= 2.0
