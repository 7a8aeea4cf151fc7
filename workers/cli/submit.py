"""Push one job by hand, and follow it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.screen import PROBLEMS, AsJson, emit, out

if TYPE_CHECKING:
    from workers.cli.follow import Ending
    from workers.job import Preset
    from workers.local.supabase.payloads import Request

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

    No row is made for it in the database: the result goes to storage, but July's receiver knows no such job.
    """
    from workers.cli.follow import follow
    from workers.cli.queues import views
    from workers.local.supabase.payloads import Request
    from workers.settings import load_settings

    preset = preset_of(job_type)
    config = _count(count, preset) | _size(size, preset) | ({} if seed is None else {"seed": seed})
    request = Request(str(uuid.uuid4()), user, preset, prompt, config=config)
    text = _payload(request, negative)
    with views(load_settings(), preset.kind) as (view,):
        pushed = {"job_id": request.job_id, "queue": view.name, "length": view.queue.push(text)}
        if not as_json:
            out().print(request.job_id)
        ending = follow(view, request.job_id, limit) if wait else None
    if as_json:
        emit(pushed | (ending.as_json() if ending else {}))
    elif ending:
        _tell(ending)
    if ending and not ending.good:
        raise typer.Exit(PROBLEMS)


def _payload(request: Request, negative: str | None) -> str:
    """The queue element, checked as the worker that gets it will do."""
    from workers import payload
    from workers.errors import Rejected
    from workers.local.supabase.payloads import july

    text = july(request)
    if negative is not None:
        text = json.dumps(json.loads(text) | {"negative_prompt": negative}, ensure_ascii=False, separators=(",", ":"))
    try:
        payload.parse(text)
    except Rejected as error:
        raise typer.BadParameter(str(error)) from None
    return text


def preset_of(job_type: str) -> Preset:
    from workers.tables import load_presets

    presets = load_presets()
    if job_type not in presets:
        raise typer.BadParameter(f"there is no job type {job_type!r}; there are {', '.join(presets)}")
    return presets[job_type]


def _count(count: int | None, preset: Preset) -> dict[str, Any]:
    if count is not None and count not in preset.outputs:
        offered = ", ".join(map(str, preset.outputs))
        raise typer.BadParameter(f"{preset.type} makes {offered} at a time, not {count}", param_hint="--count")
    return {} if count is None else {"num_images": count}


def _size(text: str | None, preset: Preset) -> dict[str, Any]:
    """A model that ignores July's size, as SDXL does, is told by the later keys."""
    if text is None:
        return {}
    offered = {f"{width}*{height}": (width, height) for width, height in (preset.size, *preset.sizes)}
    if text not in offered:
        raise typer.BadParameter(f"{preset.type} offers {', '.join(offered)}", param_hint="--size")
    width, height = offered[text]
    return {"size": text} if preset.samples_from_config else {"width": width, "height": height}


def _tell(ending: Ending) -> None:
    screen = out()
    screen.print(f"{ending.state} after {ending.seconds:.1f} s")
    for path in ending.assets:
        screen.print(f"  {path}")
    if ending.reason:
        screen.print(f"  {ending.reason}")
