"""The command line as tests call it: in this process, or as the process that a person starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from workers.cli.app import app
from workers.delivery.report import Report
from workers.job import Delivery, Outcome
from workers.payload import parse

ROOT = Path(__file__).resolve().parents[2]
USER = "22222222-2222-4222-8222-222222222222"
VARIABLES = ("SUPABASE_URL", "SUPABASE_SERVICE_KEY", "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def call_json(*arguments: str) -> Any:
    return json.loads(call(*arguments, "--json").stdout)


def start(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A process that knows nothing of our environment but where programs lie, and `env`."""
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1", **(env or {})}
    command = [sys.executable, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=clean, text=True, **pipes)


def run(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `python …` in the project's folder."""
    process = start(*arguments, env=env)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def claimed(queue) -> tuple[str, str]:
    token = str(uuid.uuid4())
    return token, parse(queue.claim(token).claim.body).id


def completed(job_id: str) -> Report:
    path = f"{USER}/{job_id}/0.png"
    delivery = Delivery(0, "sdxl_image_fast", path, "image/png", (128, 128), 1, seed=7, bytes=100)
    return Report(Outcome(job_id, "sdxl_image_fast", "completed", (delivery,)), USER)
