"""`python -m toys train`: all three models from nothing; `python -m toys measure`: how well they follow a prompt."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from workers.card.gpu import pick_device
from workers.card.weights import quiet_libraries
from workers.cli.small import HUGGINGFACE, MANIFEST

WEIGHTS = Path(__file__).with_name("weights")
MODELS = ("sdxl", "qwen", "wan")
SUMS = "SHA256SUMS"
REPORT = "report.json"
LEARNING = 0.95
"""Part of the minutes for learning; in the rest weights are written."""

app = typer.Typer(help="Small models with a meaning.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", help="Where the weights go.")]
Work = Annotated[Path, typer.Option("--work", help="Checkpoints: what is there is not learned again.")]
Device = Annotated[str, typer.Option("--device", help="cuda or cpu; found by itself.")]
Minutes = Annotated[float | None, typer.Option("--minutes", help="Let each model take at most this long.")]
Record = Annotated[bool, typer.Option(help="Whether a card records its steps once, and repeats them.")]
Sheets = Annotated[Path | None, typer.Option("--sheets", help="Where to write PNG files of what was made.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="sdxl, qwen or wan; may be repeated.")]


@app.command()
def train(
    out: Out = WEIGHTS,
    work: Work = Path(".toys"),
    device: Device = "",
    minutes: Minutes = None,
    only: Only = None,
    seed: int = 0,
    record: Record = True,
) -> None:
    """Learn and export. The same seed, device and steps give the same weights, but for rounding."""
    from toys.loop import load_plans, within
    from toys.steps import quicken

    quiet_libraries()
    chosen = pick_device(device)
    quicken(chosen)
    work.mkdir(parents=True, exist_ok=True)
    for model in only or MODELS:
        plans = {name: replace(plan, recorded=plan.recorded and record) for name, plan in load_plans(chosen).items()}
        if minutes is not None:
            learning = {name: plan for name, plan in plans.items() if name.startswith(model)}
            plans = within(LEARNING * minutes, learning)
        _note(out, _train(model, work, chosen, plans, seed, out))
    write_manifest(out)
    write_sums(out)


@app.command()
def measure(
    weights: Path = WEIGHTS,
    number: int = 60,
    guidance: float = 6.0,
    device: Device = "cpu",
    processes: int = 1,
    sheets: Sheets = None,
) -> None:
    """Print which share of the pictures of a grid of prompts grants what was asked, by what was asked."""
    from toys.measure_all import Grid, measure_all

    quiet_libraries()
    for name, share in measure_all(Grid(weights, number, guidance, device, processes), sheets).items():
        typer.echo(f"{name:28} {share:.3f}")


def write_manifest(folder: Path) -> None:
    """By how much the models that are there shrink the sizes of the presets, as on any volume of small weights."""
    from toys.sizes import SCALES
    from workers.tables import load_models

    files = load_models()
    places = {"sdxl": files.sdxl.checkpoint, "wan": files.wan.weights}
    scales = "".join(f"{kind} = {SCALES[kind]}\n" for kind, place in places.items() if (folder / place).exists())
    (folder / MANIFEST).write_text(f"[scale]\n{scales}")


def shipped(folder: Path) -> list[Path]:
    """All but the hashes themselves, and those that the engines note beside checkpoints they load."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if path.name != SUMS and path.suffix != ".sha256")


def write_sums(folder: Path) -> None:
    """The hashes of all files that are shipped, as `sha256sum -c` reads them."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}\n" for file in shipped(folder)
    ]
    (folder / SUMS).write_text("".join(lines))


def _train(model: str, work: Path, device: str, plans: Any, seed: int, out: Path) -> dict[str, Any]:
    """Replace one model in `out`; the reports of its stages."""
    from toys import qwen, sdxl, wan

    if model == "qwen":
        shutil.rmtree(out / HUGGINGFACE, ignore_errors=True)
        trained, reports = qwen.train(work, device, plans, seed)
        qwen.export(trained, out / HUGGINGFACE, seed)
        return reports
    maker: Any = {"sdxl": sdxl, "wan": wan}[model]
    networks, reports = maker.train(work, device, plans, seed)
    maker.export(networks, out)
    return dict(reports)


def _note(out: Path, reports: dict[str, Any]) -> None:
    file = out / REPORT
    known = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(known | reports, indent=2) + "\n")


if __name__ == "__main__":
    app()
