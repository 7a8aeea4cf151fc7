"""Push one job by hand, and follow it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.screen import PROBLEMS, AsJson, emit, out

if TYPE_CHECKING:
    from workers.cli.follow import Ending
    from workers.job import Preset, Size
    from workers.producer import Order

NOBODY = "00000000-0000-4000-8000-000000000000"
SEEDS = 2**32

Type = Annotated[str, typer.Argument(metavar="TYPE", help="Job type, e.g. sdxl_image_fast.", show_default=False)]
Prompt = Annotated[str, typer.Argument(help="What to show.", show_default=False)]
Count = Annotated[int | None, typer.Option(help="Number of images: 1, 3 or 6 for SDXL types.", show_default=False)]
Seed = Annotated[int | None, typer.Option(min=0, max=SEEDS - 1, help="Default: made of the job's id.")]
SizeText = Annotated[str | None, typer.Option("--size", metavar="W*H", help="One of the sizes the type offers.")]
Negative = Annotated[str | None, typer.Option(help="What not to show.", show_default=False)]
User = Annotated[str, typer.Option(metavar="UUID", help="Whose folder in storage gets the result.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the job until it has ended; exit code 1 if it failed.")]
Limit = Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Longest time to --wait.")]


def submit(
    job_type: Type,
    prompt: Prompt,
    *,
    count: Count = None,
    seed: Seed = None,
    size: SizeText = None,
    negative: Negative = None,
    user: User = NOBODY,
    wait: Wait = False,
    limit: Limit = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Push one job onto its queue, in the form of July 2025, and print its id.

    No row for it is made in the database: July's callback then finds no job, while the result is in storage.
    """
    from workers.cli.queues import views
    from workers.producer import Order
    from workers.settings import load_settings

    preset = _preset(job_type)
    order = Order(prompt, _count(count, preset), seed, _size(size, preset), negative)
    job_id = str(uuid.uuid4())
    text = _payload(order, preset, job_id, user)
    with views(load_settings(), preset.kind) as (view,):
        length = view.queue.push(text)
        if not (wait or as_json):
            out().print(job_id)
        ending = None
        if wait:
            from workers.cli.follow import follow

            ending = follow(view, job_id, limit)
    if as_json:
        emit({"job_id": job_id, "queue": view.name, "length": length} | (ending.as_json() if ending else {}))
    elif ending:
        _tell(job_id, ending)
    if ending and not ending.good:
        raise typer.Exit(PROBLEMS)


def _payload(order: Order, preset: Preset, job_id: str, user: str) -> str:
    """The job as text, checked as the worker that gets it will do."""
    from workers import payload
    from workers.errors import Rejected
    from workers.producer import as_text, july_payload
    from workers.settings import load_models

    model = getattr(load_models(), preset.kind).name
    text = as_text(july_payload(order, preset, job_id=job_id, user_id=user, model=model))
    try:
        payload.parse(text)
    except Rejected as error:
        raise typer.BadParameter(str(error)) from None
    return text


def _preset(job_type: str) -> Preset:
    from workers.settings import load_presets

    presets = load_presets()
    if job_type not in presets:
        raise typer.BadParameter(f"there is no job type {job_type!r}; there are {', '.join(presets)}")
    return presets[job_type]


def _count(count: int | None, preset: Preset) -> int:
    if count is not None and count not in preset.outputs:
        offered = ", ".join(map(str, preset.outputs))
        raise typer.BadParameter(f"{preset.type} makes {offered} at a time, not {count}", param_hint="--count")
    return count or preset.outputs[-1]


def _size(text: str | None, preset: Preset) -> Size | None:
    offered = {f"{width}*{height}": (width, height) for width, height in (preset.size, *preset.sizes)}
    if text is not None and text not in offered:
        raise typer.BadParameter(f"{preset.type} offers {', '.join(offered)}", param_hint="--size")
    return offered[text] if text else None


def _tell(job_id: str, ending: Ending) -> None:
    screen = out()
    screen.print(f"{job_id}  {ending.state}  {ending.seconds:.1f} s")
    for path in ending.assets:
        screen.print(f"  {path}")
    if ending.reason:
        screen.print(f"  {ending.reason}")
