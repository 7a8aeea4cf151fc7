"""Weights on the volume: look, measure, or write small ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.screen import PROBLEMS, AsJson, complain, emit, out, size_of
from workers.cli.submit import preset_of

if TYPE_CHECKING:
    from workers.volume import Model

models = typer.Typer(help="Weights on the volume: look, measure, or write small ones.", no_args_is_help=True)

Target = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="The future MODEL_ROOT.")]
Force = Annotated[bool, typer.Option("--force", help="Write them again, over small ones only.")]
Type = Annotated[str, typer.Option("--type", metavar="TYPE", help="The type of clip that is made.")]
Root = Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Default: MODEL_ROOT.", show_default=False)]


@models.command()
def tiny(folder: Target, force: Force = False) -> None:
    """Write small random checkpoints of all models: every job type then runs in seconds, on any machine."""
    from workers.cli.small import write_volume

    written = write_volume(folder.resolve(), force=force)
    names = ", ".join(written) if written else "nothing new"
    out().print(f"{folder.resolve()}: {names} written; use it as MODEL_ROOT")


@models.command()
def check(folder: Root = None, as_json: AsJson = False) -> None:
    """List the files of weights and what is wrong with them; exit code 1 if anything is."""
    from workers.kinds import KINDS
    from workers.tables import load_models
    from workers.volume import find_models, scales

    root, huggingface = _places(folder)
    found = find_models(root, huggingface, load_models())
    if as_json:
        emit({"model_root": str(root), "scale": scales(root, KINDS), "models": [model.as_json() for model in found]})
    else:
        for model in found:
            _print(model)
        _print_scales(scales(root, KINDS))
        complain(problem for model in found for problem in model.problems)
    if any(model.problems for model in found):
        raise typer.Exit(PROBLEMS)


@models.command()
def calibrate(folder: Root = None, job_type: Type = "video_fast") -> None:
    """Make one clip and write down how its work grows and shrinks, for turbo that reuses by magnitude.

    Once for each model, while no worker runs: it takes the card.
    """
    from workers.cli.calibration import calibrated

    written, curve = calibrated(_places(folder)[0], preset_of(job_type))
    out().print(f"{written}: {len(curve.times)} steps, magnitudes from 1 to {curve.magnitudes[-1]:.3f}")


def _places(folder: Path | None) -> tuple[Path, Path]:
    """MODEL_ROOT and the Hugging Face cache. A folder that is named counts as a volume of its own."""
    from workers.known import known_settings

    if folder is not None:
        return folder.resolve(), folder.resolve() / "huggingface_cache"
    settings = known_settings().settings
    return settings.model_root, settings.huggingface


def _print(model: Model) -> None:
    screen = out()
    screen.print(f"{model.name}  {model.layout}  {size_of(model.bytes)}  {model.folder}")
    for name, size in model.files.items():
        screen.print(f"  {size_of(size):>9}  {name}")


def _print_scales(scale: dict[str, float]) -> None:
    small = {kind: factor for kind, factor in scale.items() if factor != 1.0}
    if small:
        out().print("small weights: sizes " + ", ".join(f"× {factor:.3g} for {kind}" for kind, factor in small.items()))
