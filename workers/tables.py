"""`config/presets.toml` and `config/models.toml` become frozen records."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from workers.errors import Misconfigured
from workers.job import WRITTEN, GuideUse, Lora, Preset, ReuseBy, Size, Turbo
from workers.loras import LoraFile
from workers.settings import CONFIG_DIR, WRONG_VALUE

Value = TypeVar("Value")
Solver = Literal["unipc", "dpm++", "euler"]


class ModelFiles(BaseModel):
    """`config/models.toml`: paths below MODEL_ROOT, and the names that callbacks carry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class Sdxl(BaseModel):
        name: str
        checkpoint: str

    class Wan(BaseModel):
        name: str
        weights: str
        converted: str
        magnitudes: str

    class Adapter(BaseModel):
        weights: str
        sha256: str | None = None
        encoder: str
        encoder_sha256: str | None = None

    class Vace(BaseModel):
        weights: str

    sdxl: Sdxl
    wan: Wan
    loras: Mapping[str, LoraFile] = {}
    adapter: Adapter | None = None
    vace: Vace | None = None


class _TurboTable(BaseModel):
    """As `Turbo`, with the LoRA's name and strength side by side."""

    model_config = ConfigDict(extra="forbid")

    on: bool = False
    guided: tuple[float, float] = (0.0, 1.0)
    reuse: float = Field(default=0.0, ge=0, le=1)
    reuse_by: ReuseBy = "first block"
    precision: Literal["fp8"] | None = None
    steps: int | None = Field(default=None, ge=1, le=60)
    guidance: float | None = Field(default=None, ge=1, le=12)
    solver: Solver | None = None
    lora: str | None = None
    strength: float = 1.0

    @field_validator("guided")
    @classmethod
    def _shares(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 1:
            raise ValueError("must be two shares of the steps, such as [0.0, 0.7]")
        return value

    @field_validator("reuse_by")
    @classmethod
    def _of_something(cls, value: ReuseBy, seen: ValidationInfo) -> ReuseBy:
        if value != Turbo().reuse_by and not seen.data.get("reuse"):
            raise ValueError("needs reuse: how much of it may change")
        return value

    def turbo(self) -> Turbo:
        lora = None if self.lora is None else Lora(self.lora, self.strength)
        return Turbo(**self.model_dump(exclude={"lora", "strength"}), lora=lora)


class _PresetTable(BaseModel):
    """One table of `presets.toml` as written; `Preset` is what the code works with."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    media: Literal["image", "video"]
    size: str
    sizes: list[str] = []
    stable: dict[str, str] = {}
    frames: int = Field(default=1, ge=1, le=81)
    steps: int = Field(ge=1, le=60)
    guidance: float = Field(ge=1, le=12)
    shift: float | None = Field(default=None, ge=1, le=12)
    solver: Solver = "unipc"
    enhance: bool = False
    outputs: list[int] = [1]
    tier: str
    quality: Literal["fast", "high"] = "fast"
    bucket_mib: int = Field(gt=0)
    samples_from_config: bool = False
    references: list[GuideUse] = ["start"]
    goal: float | None = Field(default=None, gt=0)
    turbo: _TurboTable = _TurboTable()

    @field_validator("turbo")
    @classmethod
    def _for_clips(cls, value: _TurboTable, seen: ValidationInfo) -> _TurboTable:
        if value.precision is not None and seen.data.get("media") == "image":
            raise ValueError("precision is for clips: a picture's steps are bound by launches")
        return value

    @field_validator("size")
    @classmethod
    def _size(cls, value: str) -> str:
        _size(value)
        return value

    @field_validator("frames")
    @classmethod
    def _whole_groups(cls, value: int) -> int:
        if value % 4 != 1:
            raise ValueError("must be 4n+1")
        return value

    def preset(self, job_type: str) -> Preset:
        values = self.model_dump(exclude={"size", "sizes", "stable", "outputs", "references", "bucket_mib", "turbo"})
        return Preset(
            type=job_type,
            size=_size(self.size),
            sizes=tuple(map(_size, self.sizes)),
            stable=tuple((_size(size), _size(stable)) for size, stable in self.stable.items()),
            outputs=tuple(self.outputs),
            references=tuple(self.references),
            bucket_limit=self.bucket_mib * 2**20,
            turbo=self.turbo.turbo(),
            **values,
        )


def load_presets(path: Path = CONFIG_DIR / "presets.toml") -> dict[str, Preset]:
    """Job type -> preset. Raises `Misconfigured`."""

    def preset(job_type: str, table: object) -> Preset:
        return _checked(lambda: _PresetTable.model_validate(table).preset(job_type), f"{path.name} [{job_type}]")

    return {job_type: preset(job_type, table) for job_type, table in _read_toml(path).items()}


@functools.cache
def ranks_of(kind: str) -> dict[str, int]:
    """Which of a kind's job types are served first: fast ones, and texts, before those of high quality."""
    made = {preset.type: int(preset.quality != "fast") for preset in load_presets().values() if preset.kind == kind}
    return made | {job_type: 0 for job_type, writer in WRITTEN.items() if writer == kind}


def check_loras(presets: Mapping[str, Preset], models: ModelFiles) -> None:
    """Raises `Misconfigured` where a preset's turbo needs a LoRA that is not offered for its kind."""
    problems = [
        f"presets.toml [{name}.turbo] lora: {turbo.lora.name} is not a LoRA for {preset.kind} in models.toml."
        for name, preset in presets.items()
        if (turbo := preset.turbo).on
        and turbo.lora
        and (turbo.lora.name not in models.loras or models.loras[turbo.lora.name].base != preset.kind)
    ]
    if problems:
        raise Misconfigured(problems, exit_code=WRONG_VALUE)


def eight_bits(presets: Iterable[Preset], possible: bool) -> bool:
    """Whether some of these types are computed in 8 bits. Raises `Misconfigured` where that is not possible."""
    wanted = [preset.type for preset in presets if preset.turbo.on and preset.turbo.precision == "fp8"]
    if wanted and not possible:
        needs = "fp8 takes a card of compute capability 8.9 or later"
        problems = [f"presets.toml [{name}.turbo] precision: {needs}." for name in wanted]
        raise Misconfigured(problems, exit_code=WRONG_VALUE)
    return bool(wanted)


def load_models(path: Path = CONFIG_DIR / "models.toml") -> ModelFiles:
    """Where weights lie on the volume. Raises `Misconfigured`."""
    return _checked(lambda: ModelFiles.model_validate(_read_toml(path)), path.name)


def size_scale(model_root: Path, kind: str) -> float:
    """How much smaller than the presets this volume's weights want to work: 1.0 for real weights."""
    manifest = model_root / "manifest.toml"
    if not manifest.is_file():
        return 1.0
    return float(_read_toml(manifest).get("scale", {}).get(kind, 1.0))


def _size(text: str) -> Size:
    width, height = (int(side) for side in text.split("*"))
    if width <= 0 or height <= 0 or width % 16 or height % 16:
        raise ValueError("sides must be positive multiples of 16")
    return width, height


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured([f"{path} cannot be read: {error}"], exit_code=WRONG_VALUE) from None


def _checked(make: Callable[[], Value], where: str) -> Value:
    try:
        return make()
    except ValidationError as error:
        problems = [f"{where} {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise Misconfigured(problems, exit_code=WRONG_VALUE) from None
    except (ValueError, TypeError) as error:
        raise Misconfigured([f"{where}: {error}"], exit_code=WRONG_VALUE) from None
