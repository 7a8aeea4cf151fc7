"""A supervisor for tests: `supervise.py JSON`, with the slots' behaviours, the pace and the run folder in the JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from workers.logs import configure, log
from workers.supervision.keeper import Hooks
from workers.supervision.process import Slot
from workers.supervision.slot import Pace
from workers.supervision.supervisor import supervise

WORKER = Path(__file__).with_name("worker.py")


def broken() -> dict[str, int]:
    raise OSError("the queue is away")


def main() -> int:
    order = json.loads(sys.argv[1])
    configure(fmt="json")
    slots = [
        Slot(name, order["argv"] or (sys.executable, str(WORKER), name, behaviour), dict(os.environ))
        for name, behaviour in order["slots"].items()
    ]
    hooks = Hooks(
        on_exit=lambda name, beat: log.info("leases end", slot=name, claims=list(beat.tokens) if beat else None),
        may_start=lambda _name: not Path(order["run_dir"], "card-is-full").exists(),
        depths=broken if order["broken"] else lambda: {"sdxl_queue": 3},
    )
    pace = Pace(**{**order["pace"], "backoff": tuple(order["pace"]["backoff"])})
    return supervise(slots, only=order["only"], hooks=hooks, pace=pace, run_dir=Path(order["run_dir"]))


sys.exit(main())
