"""A true worker process around an engine without a model: `fake_worker.py KIND STEPS SECONDS`, the seconds per step."""

from __future__ import annotations

import os
import sys

from workers.boot import run_worker
from workers.kinds import KINDS, Kind
from workers.testing.fakes import FakeEngine, no_objections

kind, steps, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
engine = FakeEngine(seconds, steps)
os.environ["WATERMARK"] = "false"  # it would take longer to load than all the rest
KINDS[kind] = Kind(kind, poll=0.1, step_limit=20.0, engine=lambda _: engine, scorers=no_objections)
run_worker(kind)
