"""Judges of pictures that answer, fail, die or sleep as the environment says."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.delivery import packing
from workers.safety.scorers import Scorers, open_scorers
from workers.safety.staged import Manifest
from workers.testing.fakes import FakeScorer

packing.PATIENCE = float(os.environ.get("EVIL_PATIENCE", packing.PATIENCE))


def judges(manifest: Manifest, root: Path) -> Scorers:
    """EVIL_EXPLICIT: what the scorer of explicitness answers, or one of the deeds below, or `shipped` for the true
    scorers; EVIL_AGE: years."""
    if os.environ.get("EVIL_EXPLICIT") == "shipped":
        return open_scorers(manifest, root)
    age = os.environ.get("EVIL_AGE")
    explicit = FakeScorer("explicitness", _answer(os.environ.get("EVIL_EXPLICIT", "0")))
    return Scorers(((explicit, 0.6),), None if age is None else (FakeScorer("age", float(age)), 25.0))


def _answer(order: str) -> float | Callable[[Any], float]:
    return DEEDS[order] if order in DEEDS else float(order)


def _fail(_frame: Any) -> float:
    raise RuntimeError("no memory")


def _die(_frame: Any) -> float:
    """When it has looked the first time, as if the library's own code had crashed."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def _sleep(_frame: Any) -> float:
    time.sleep(3600)
    return 0.0


DEEDS = {"fails": _fail, "dies": _die, "sleeps": _sleep}
