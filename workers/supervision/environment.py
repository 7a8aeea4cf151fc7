"""What worker processes get from their supervisor's environment."""

from __future__ import annotations

import os

KEEP_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""Some images forbid it, and then every start compiles the libraries' 2,600 files again, which takes seconds."""


def worker_environment(workers: int) -> dict[str, str]:
    """The environment for worker processes: without the key that could rent or stop machines, hub offline, and
    the cores shared out, since two thread pools on the same cores wait for each other at every barrier."""
    kept = {k: v for k, v in os.environ.items() if k != "RUNPOD_API_KEY"}
    shared = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))}
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    return shared | kept | quiet | KEEP_BYTECODE
