"""`config/presets.toml` and `config/models.toml` become frozen records."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from workers.errors import Misconfigured
from workers.job import GuideUse, Preset, Size
from workers.loras import LoraFile
from workers.settings import CONFIG_DIR, WRONG_VALUE

Value = TypeVar("Value")


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
    solver: Literal["unipc", "dpm++", "euler"] = "unipc"
    enhance: bool = False
    outputs: list[int] = [1]
    tier: str
    quality: Literal["fast", "high"] = "fast"
    bucket_mib: int = Field(gt=0)
    samples_from_config: bool = False
    references: list[GuideUse] = ["start"]
    goal: float | None = Field(default=None, gt=0)

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
        values = self.model_dump(exclude={"size", "sizes", "stable", "outputs", "references", "bucket_mib"})
        return Preset(
            type=job_type,
            size=_size(self.size),
            sizes=tuple(map(_size, self.sizes)),
            stable=tuple((_size(size), _size(stable)) for size, stable in self.stable.items()),
            outputs=tuple(self.outputs),
            references=tuple(self.references),
            bucket_limit=self.bucket_mib * 2**20,
            **values,
        )


def load_presets(path: Path = CONFIG_DIR / "presets.toml") -> dict[str, Preset]:
    """Job type -> preset. Raises `Misconfigured`."""

    def preset(job_type: str, table: object) -> Preset:
        return _checked(lambda: _PresetTable.model_validate(table).preset(job_type), f"{path.name} [{job_type}]")

    return {job_type: preset(job_type, table) for job_type, table in _read_toml(path).items()}


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
