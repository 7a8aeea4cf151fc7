"""What lies on a volume of weights: files, sizes and problems, without loading any of it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workers.card.weights import check_safetensors
from workers.engines.qwen import snapshot
from workers.engines.sdxl import load as sdxl
from workers.engines.sdxl.adapter import ENCODER_WEIGHTS, GROUPS, AdapterFiles
from workers.engines.wan import curve, originals
from workers.engines.wan.vace import TRANSFORMER
from workers.engines.wan.vace import present as vace_present
from workers.errors import Misconfigured
from workers.job import Preset
from workers.loras import LoraFile
from workers.settings import Settings
from workers.tables import ModelFiles, size_scale

PARTS = ("transformer", "vae", "text_encoder")


@dataclass(frozen=True, slots=True)
class Model:
    """One model as found below `folder`, for workers of `kind`. `files` are relative to it, with sizes in bytes."""

    name: str
    kind: str
    layout: str
    folder: Path
    files: dict[str, int]
    problems: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(self.files.values())

    def as_json(self) -> dict[str, Any]:
        facts = {"model": self.name, "layout": self.layout, "folder": str(self.folder), "bytes": self.bytes}
        return {**facts, "files": self.files, "problems": list(self.problems)}


def find_models(
    root: Path, huggingface: Path, models: ModelFiles, variant: Literal["auto", "base", "instruct"] = "auto"
) -> list[Model]:
    """All three, there or not, and of the optional ones those that are there."""
    wan = _wan(root / models.wan.weights, root / models.wan.converted)
    needed = [_sdxl(root / models.sdxl.checkpoint), wan, _qwen(huggingface, variant)]
    adapter, vace = adapter_files(root, models), vace_folder(root, models)
    if adapter is not None and adapter.present:
        needed.append(_adapter(adapter))
    if vace is not None and vace_present(vace):
        needed.append(_vace(vace))
    there = {name: lora for name, lora in models.loras.items() if (root / lora.file).is_file()}
    return [*needed, *(_lora(root, name, lora) for name, lora in there.items())]


def lost_loras(root: Path, models: ModelFiles) -> list[str]:
    """Those that the deployment offers and this volume does not hold: jobs that ask for one are refused."""
    return [name for name, lora in models.loras.items() if not (root / lora.file).is_file()]


def adapter_files(root: Path, models: ModelFiles) -> AdapterFiles | None:
    """Where the adapter lies, if the deployment names one. Small weights are others than those that are named."""
    files, small = models.adapter, size_scale(root, "sdxl") != 1.0
    if files is None:
        return None
    hashes = (None, None) if small else (files.sha256, files.encoder_sha256)
    return AdapterFiles(root / files.weights, root / files.encoder, *hashes)


def vace_folder(root: Path, models: ModelFiles) -> Path | None:
    return None if models.vace is None else root / models.vace.weights


def curve_for(presets: Iterable[Preset], root: Path, models: ModelFiles) -> curve.Curve | None:
    """How the video model's magnitudes go, where some of these types reuse by them. Raises `Misconfigured` where it is
    not known."""
    wanted = [preset.type for preset in presets if preset.turbo.on and preset.turbo.reuse_by == "magnitude"]
    try:
        return curve.load(root / models.wan.magnitudes) if wanted else None
    except Misconfigured as error:
        tables = ", ".join(f"[{name}.turbo]" for name in wanted)
        problems = [f"presets.toml {tables} reuse_by: {problem}" for problem in error.problems]
        raise Misconfigured(problems, exit_code=error.exit_code) from None


def models_of(settings: Settings, models: ModelFiles) -> list[Model]:
    return find_models(settings.model_root, settings.huggingface, models, settings.qwen_variant)


def scales(root: Path, kinds: Iterable[str]) -> dict[str, float]:
    """Worker kind -> by how much this volume's weights shrink sizes. Raises `Misconfigured`."""
    return {kind: size_scale(root, kind) for kind in kinds}


def _sdxl(checkpoint: Path) -> Model:
    problems = _collected([lambda: check_safetensors(checkpoint, sdxl.KEY_GROUPS)])
    return _model("sdxl", "sdxl", "single file", checkpoint.parent, [checkpoint], problems)


def _wan(folder: Path, converted: Path) -> Model:
    """The authors' files may be deleted once they are converted."""
    if (folder / "model_index.json").is_file():
        return _wan_in_parts(folder)
    if (converted / "model_index.json").is_file() and not any(path.is_file() for path in originals.files(folder)):
        return _wan_in_parts(converted)
    files = originals.files(folder)
    problems = [*originals.missing(folder), *_collected(_whole(path) for path in files if path.is_file())]
    return _model("wan", "wan", "original", folder, files, problems)


def _wan_in_parts(folder: Path) -> Model:
    weights = {part: sorted((folder / part).glob("*.safetensors")) for part in PARTS}
    missing = [f"{folder / part} holds no safetensors file. Copy it again." for part in PARTS if not weights[part]]
    files = [file for part in PARTS for file in weights[part]]
    problems = [*missing, *_collected(_whole(file) for file in files)]
    return _model("wan", "wan", "diffusers", folder, files, problems)


def _adapter(files: AdapterFiles) -> Model:
    encoder = files.encoder / ENCODER_WEIGHTS
    problems = _collected([lambda: check_safetensors(files.weights, GROUPS), _whole(encoder)])
    return _model("adapter", "sdxl", "single file", files.weights.parent, [files.weights, encoder], problems)


def _vace(folder: Path) -> Model:
    files = sorted((folder / TRANSFORMER).glob("*.safetensors"))
    missing = [] if files else [f"{folder / TRANSFORMER} holds no safetensors file. Copy it again."]
    return _model("vace", "wan", "diffusers", folder, files, [*missing, *_collected(map(_whole, files))])


def _qwen(huggingface: Path, variant: Literal["auto", "base", "instruct"]) -> Model:
    try:
        found, folder = snapshot.pick_snapshot(huggingface, variant)
        files = snapshot.weight_files(folder)
    except Misconfigured as error:
        return _model("qwen", "wan", "snapshot", huggingface, [], error.problems)
    return _model("qwen", "wan", f"snapshot, {found}", folder, files, _collected(_whole(file) for file in files))


def _lora(root: Path, name: str, lora: LoraFile) -> Model:
    """Its hash is compared when it is loaded."""
    path = root / lora.file
    return _model(f"lora {name}", lora.base, "lora", path.parent, [path], _collected([_whole(path)]))


def _whole(path: Path) -> Callable[[], None]:
    """A check of one file of weights; of others it asks nothing."""

    def check() -> None:
        if path.suffix == ".safetensors":
            check_safetensors(path, {})
        elif path.suffix == ".pth" and not zipfile.is_zipfile(path):
            raise Misconfigured([f"{path} is not a whole checkpoint. Copy it again and compare its size."])

    return check


def _collected(checks: Iterable[Callable[[], None]]) -> list[str]:
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except Misconfigured as error:
            problems += error.problems
    return problems


def _model(name: str, kind: str, layout: str, folder: Path, files: Iterable[Path], problems: Iterable[str]) -> Model:
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files if path.is_file()}
    return Model(name, kind, layout, folder, sizes, tuple(problems))
