"""The nouns of the house: what a job is, what is asked of an engine, what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Media = Literal["image", "video"]
Rating = Literal["sfw", "adult"]
Size = tuple[int, int]

FPS = 16
WRITTEN: Mapping[str, str] = {"enhance_prompt": "wan"}
"""Job types whose only output is a text, beside those of the presets; and the kind of worker that writes it."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One job type: a table of `config/presets.toml`. Sizes are (width, height) in pixels, limits in bytes.

    `kind` names the worker kind whose queue carries the type. `outputs` are the numbers of assets a payload may
    ask for, the last of them the default. `sizes` are the sizes a payload may choose beside the preset's own.
    `samples_from_config` says whether the payload's `sample_*` keys are meant for this model (for SDXL they are
    noise).
    """

    type: str
    kind: str
    media: Media
    size: Size
    steps: int
    guidance: float
    bucket_limit: int
    tier: str
    quality: Literal["fast", "high"] = "fast"
    frames: int = 1
    shift: float | None = None
    solver: str = "unipc"
    enhance: bool = False
    outputs: tuple[int, ...] = (1,)
    sizes: tuple[Size, ...] = ()
    samples_from_config: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture or clip that a job points at. `role` is the payload's key, e.g. `reference_image_url`."""

    role: str
    url: str


@dataclass(frozen=True, slots=True)
class Job:
    """One message of the queue, checked. `config` and `metadata` are the client's, snake_cased, never trusted."""

    id: str
    type: str
    user_id: str
    prompt: str
    negative_prompt: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: str | None = None
    image_id: str | None = None
    video_id: str | None = None
    character_id: str | None = None
    consent_id: str | None = None
    rating: Rating | None = None
    tier: str | None = None
    raw_prompt: bool = False
    compel_weights: str = ""
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """What one generation is asked for. Sizes in pixels as generated; one seed per output, in output order.

    `adjusted` lists wishes of the payload that were moved into bounds: name -> [asked, used].
    """

    type: str
    media: Media
    width: int
    height: int
    frames: int
    steps: int
    guidance: float
    seeds: tuple[int, ...]
    solver: str
    shift: float | None
    quality: Literal["fast", "high"]
    prompt: str = ""
    negative_prompt: str = ""
    fps: int = FPS
    adjusted: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """The pixels of one asset, in host memory. `frames` has shape (frames, height, width, 3), uint8, sRGB."""

    index: int
    seed: int
    frames: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One encoded asset in the outbox. `size` is (width, height) of the picture as encoded."""

    index: int
    path: Path
    content_type: str
    size: Size
    frames: int
    seed: int
    thumbnail: Path | None = None

    @property
    def extension(self) -> str:
        return self.path.suffix.removeprefix(".")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One asset in storage. Paths are inside the bucket and begin with the user id."""

    index: int
    bucket: str
    path: str
    content_type: str
    size: Size
    frames: int
    seed: int
    bytes: int
    thumbnail_path: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, complete enough to build its callback in any dialect, also by another process."""

    job_id: str
    type: str
    status: Literal["completed", "failed"]
    deliveries: tuple[Delivery, ...] = ()
    error_message: str | None = None
    error_type: str | None = None
    enhanced_prompt: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
