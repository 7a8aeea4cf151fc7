"""The newcomer's first command: the whole system on this machine, its page, and one job of every type."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.screen import err, fail
from workers.supervision import heartbeat

if TYPE_CHECKING:
    from rich.table import Table

    from workers.local.edge.stack import EdgeStack
    from workers.local.stack import LocalStack

    Stack = LocalStack | EdgeStack

PROMPTS = (
    "a red bicycle leaning on a white wall, morning light",
    "a lighthouse at dusk, waves rolling in",
    "two green apples on a wooden table",
    "a paper boat on a pond, ripples moving outwards",
)
TOY_PROMPTS: Mapping[str, tuple[str, ...]] = {
    "image": (
        "a red circle on a blue background",
        "two green squares side by side on a white background",
        "a big yellow triangle on the left, purple background",
    ),
    "video": ("a red circle moving right on a white background", "a yellow square moving up on a blue background"),
}
"""For small weights, whose whole world are shapes."""
CURL = """\
  curl $SUPABASE_URL/functions/v1/queue-job -H "Authorization: Bearer $QUEUE_JOB_TOKEN" \\
       -d '{"jobType":"image_fast","prompt":"a lighthouse at dusk"}'"""
ENDED = ("completed", "failed")
PATIENCE = 600.0
GRACE = 40.0
START = 20.0
CARD = Path("/dev/nvidiactl")

Folder = Annotated[Path, typer.Option("--folder", help="Where weights, logs and results go.")]
Once = Annotated[bool, typer.Option("--once", envvar="ONCE", help="End when all results are there; 0 only if all are.")]
Port = Annotated[int, typer.Option("--port", help="Where the page is served; 0 takes a free port.")]
Supabase = Annotated[
    bool, typer.Option("--supabase", envvar="SUPABASE", help="Run the functions and database of supabase/.")
]


def demo(folder: Folder = Path(".demo"), once: Once = False, port: Port = 0, supabase: Supabase = False) -> None:
    """Run everything here: local queue and storage, both workers and their page, one job of each type."""
    _end_on_signals()
    folder, local = folder.absolute(), _stack(supabase=supabase)
    models = _weights(folder)
    with local as stack, _workers(stack, models, folder, port) as process:
        jobs = {job_type: stack.submit(job_type, prompt) for job_type, prompt in _orders(models)}
        err().print(f"Jobs queued. Logs: {folder / 'workers.log'}")
        err().print(f"The page: {_page(folder, process)}", soft_wrap=True)
        _follow(stack, jobs, folder, process)
        kept = stack.write_results(folder / "results")
        arrived = [stack.job(job_id)["status"] == "completed" for job_id in jobs.values()]
        err().print(f"\n{sum(arrived)} of {len(jobs)} job types arrived. To keep: {kept}")
        if not once:
            _wait_for_more(stack, folder, process)
    if not all(arrived):
        raise fail(f"not every job arrived; {folder / 'workers.log'} says why")


def _stack(*, supabase: bool) -> Stack:
    """The double of July, or the deployment of `supabase/` under Deno and PostgreSQL where their packages are."""
    from workers.local.edge.stack import EdgeStack
    from workers.local.stack import LocalStack

    try:
        return EdgeStack() if supabase else LocalStack()
    except FileNotFoundError as error:
        raise fail(str(error)) from None


def _end_on_signals() -> None:
    """Both signals end everything, also where a shell started us in the background and had SIGINT ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _orders(models: Path) -> Iterator[tuple[str, str]]:
    from workers.tables import load_presets, size_scale

    for i, (job_type, preset) in enumerate(load_presets().items()):
        small = size_scale(models, preset.kind) < 1
        prompts = TOY_PROMPTS[preset.media] if small else PROMPTS
        yield job_type, prompts[i % len(prompts)]


def _weights(folder: Path) -> Path:
    """The real weights where there is a volume with a card, else tiny ones made here."""
    given = Path(os.environ.get("MODEL_ROOT", "/workspace/models"))
    if "MODEL_ROOT" in os.environ or (given.is_dir() and CARD.exists()):
        return given
    from workers.cli.small import write_volume

    with err().status("Making tiny checkpoints of all three models"):
        write_volume(folder / "models")
    return folder / "models"


@contextmanager
def _workers(stack: Stack, models: Path, folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The orchestrator with both workers, as a pod runs it, with all that its page can; its output goes to a file."""
    from workers.boot import ROOT
    from workers.ops.room import ADDRESS

    run = folder / "run"
    run.mkdir(parents=True, exist_ok=True)
    (run / ADDRESS).unlink(missing_ok=True)
    ours = {"MODEL_ROOT": str(models), "OUTBOX_DIR": str(folder / "outbox"), heartbeat.RUN_DIR: str(run)}
    ours |= {"OPS_ADDRESS": f"127.0.0.1:{port}", "OPS_DIR": str(folder / "ops")}
    ours |= {"OPS_SUBMIT": "true", "OPS_PICTURES": "true"}
    ours[heartbeat.SUPERVISOR] = str(os.getpid())  # so that it does not outlive us, however we end
    os.environ[heartbeat.RUN_DIR] = str(run)
    env = {**os.environ, "LOG_FORMAT": "text", **stack.env, **stack.caller, **ours}
    with (folder / "workers.log").open("wb") as log:
        command = [sys.executable, str(ROOT / "dual_orchestrator.py")]
        process = subprocess.Popen(  # noqa: S603 - our own script
            command, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        _end(process)


def _page(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the supervisor serves its page; it says so when it begins."""
    from workers.ops.room import ADDRESS

    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        if (address := folder / "run" / ADDRESS).exists():
            return f"http://{address.read_text()}"
        time.sleep(0.1)
    return f"nowhere; {folder / 'workers.log'} says why"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def _follow(stack: Stack, jobs: Mapping[str, str], folder: Path, process: subprocess.Popen[bytes]) -> None:
    from rich.live import Live

    deadline = time.monotonic() + PATIENCE
    with Live(console=err(), refresh_per_second=4) as live:
        while True:
            rows = {job["id"]: job for job in stack.jobs()}
            live.update(_table(jobs, rows))
            if all(rows[job_id]["status"] in ENDED for job_id in jobs.values()):
                return
            if process.poll() is not None or time.monotonic() > deadline:
                raise fail(f"the workers stopped or took too long; {folder / 'workers.log'} says why")
            time.sleep(0.25)


def _table(jobs: Mapping[str, str], rows: Mapping[str, Mapping[str, Any]]) -> Table:
    from rich.table import Table

    from workers.kinds import KINDS

    working = {beat.job: beat for kind in KINDS if (beat := heartbeat.read(heartbeat.path_of(kind)))}
    loading = {beat.phase for beat in working.values() if beat.phase in ("load", "convert", "warm_up")}
    table = Table(title=f"One job of each type{' — models are loading' if loading else ''}", title_justify="left")
    for column in ("type", "status", "phase", "seconds"):
        table.add_column(column)
    for job_type, job_id in jobs.items():
        beat, row = working.get(job_id), rows[job_id]
        busy = beat is not None and row["status"] not in ENDED
        phase = f"{beat.phase} {beat.percent or 0} %" if beat is not None and busy else ""
        table.add_row(job_type, row["status"], phase, _seconds(row))
    return table


def _seconds(row: Mapping[str, Any]) -> str:
    timings = ((row.get("metadata") or {}).get("timings") or {}).items()
    made = [seconds for phase, seconds in timings if phase != "wait"]
    return f"{sum(made):.1f}" if made else ""


def _wait_for_more(stack: Stack, folder: Path, process: subprocess.Popen[bytes]) -> None:
    variables = folder / "env"
    known = {**stack.env, **stack.caller, heartbeat.RUN_DIR: str(heartbeat.run_dir())}
    variables.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in known.items()))
    err().print("Waiting for more jobs. As the web page queues them, in another terminal:", soft_wrap=True)
    err().print(f"  . {variables}", soft_wrap=True)
    err().print(CURL, soft_wrap=True)
    err().print(f"  {sys.executable} -m workers status", soft_wrap=True)
    err().print("Ctrl-C ends everything.")
    try:
        process.wait()
    except KeyboardInterrupt:
        err().print("Ending: what is being made is finished first; Ctrl-C again hands it back at once.")
