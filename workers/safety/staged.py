"""`config/safety/manifest.toml`: which models judge pictures, and what else a deployment stages for its gates."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.errors import Misconfigured
from workers.settings import CONFIG_DIR

MANIFEST = CONFIG_DIR / "safety" / "manifest.toml"
UNFIT = 73
"""Exit code of a worker whose safety components are not as they should be."""


class Staged(BaseModel):
    """A file below MODEL_ROOT, and the SHA-256 it must have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Explicitness(Staged):
    """The file lies in an installed `package`. No manifest makes the threshold lax."""

    package: str
    threshold: float = Field(gt=0, le=0.8)


class Detector(Staged):
    threshold: float = Field(gt=0, le=0.8)


class Age(Staged):
    """`minimum` in years."""

    minimum: float = Field(default=25, ge=21, le=40)


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    explicitness: Explicitness
    detector: Detector | None = None
    age: Age | None = None
    persons: Staged | None = None


def load_manifest(path: Path = MANIFEST) -> Manifest:
    """Raises `Misconfigured` with exit code 73."""
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = [f"{path.name} {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise Misconfigured(problems, exit_code=UNFIT) from None
    except (OSError, ValueError) as error:
        raise Misconfigured([f"{path} cannot be read: {type(error).__name__}."], exit_code=UNFIT) from None


def read_staged(path: Path, staged: Staged) -> bytes:
    """The bytes whose hash was checked, so that nobody changes the file in between. Raises `Misconfigured`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Misconfigured([f"{path} cannot be read: {error.strerror}. Stage it."], exit_code=UNFIT) from None
    if hashlib.sha256(data).hexdigest() != staged.sha256:
        raise Misconfigured([f"{path} has another SHA-256 than the manifest says. Stage it again."], exit_code=UNFIT)
    return data
