"""The nouns of the house: what a job is, what is asked of an engine, what comes of it."""

from __future__ import annotations

import re
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
ReuseBy = Literal["first block", "magnitude", "spectrum"]
GuideUse = Literal["start", "style", "character", "subject", "frames"]

FPS = 16
WRITTEN: Mapping[str, str] = {"enhance_prompt": "wan"}
"""Job types whose only output is a text, beside those of the presets; and the kind of worker that writes it."""
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Lora:
    """One that a job wants, by name."""

    name: str
    strength: float


@dataclass(frozen=True, slots=True)
class Turbo:
    """Time saved at the price of other pixels, where a preset's table has it `on`.

    `guided`: from which share of the steps to which the negative prompt counts. `reuse`: how
    much may change for a clip's blocks to be left out and their work kept from before, 0: none; `reuse_by`: of what.
    `precision`: in what a clip's large products are computed; None is as the model is.
    `steps`, `guidance` and `solver` are what `lora`, which was distilled for few steps, needs; a payload may ask for
    less of the first two, not for more.
    """

    on: bool = False
    guided: tuple[float, float] = (0.0, 1.0)
    reuse: float = 0.0
    reuse_by: ReuseBy = "first block"
    precision: Literal["fp8"] | None = None
    steps: int | None = None
    guidance: float | None = None
    solver: str | None = None
    lora: Lora | None = None

    def guides(self, step: int, steps: int) -> bool:
        """Whether the negative prompt counts in this step, the first being 0."""
        return self.guided[0] <= step / steps < self.guided[1]


@dataclass(frozen=True, slots=True)
class Preset:
    """One job type: a table of `config/presets.toml`. Sizes are (width, height) in pixels, limits in bytes.

    `kind` names the worker kind whose queue carries the type. `outputs` are the numbers of assets a payload may
    ask for, the last of them the default. `sizes` are the sizes a payload may choose beside the preset's own.
    `samples_from_config` says whether the payload's `sample_*` keys are meant for this model (for SDXL they are
    noise). `stable` names, for sizes that the model handles badly, the one to go to. `references` are the ways in
    which the type takes reference pictures. `goal` is within how many seconds of work the files should be there, on
    the card that the project is measured on.
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
    stable: tuple[tuple[Size, Size], ...] = ()
    samples_from_config: bool = False
    references: tuple[GuideUse, ...] = ("start",)
    turbo: Turbo = Turbo()
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture or clip that a job points at. `role` says what for: reference_image_url, first_frame or last_frame."""

    role: str
    url: str


@dataclass(frozen=True, slots=True)
class Picture:
    """`size` is (width, height). `pixels` are its rows from the top, 8-bit RGB: width * height * 3 bytes for each of
    its frames; a clip has several, `FPS` a second. `sha256` is that of the file it came in."""

    size: Size
    pixels: bytes = field(repr=False)
    frames: int = 1
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Guide:
    """How references steer a generation.

    "start": it begins from the picture or clip instead of from noise, and `change` is the share of its steps that are
    left, from 0 (a copy) to 1. "style" and "character": the picture is shown to the denoiser beside the text, and
    `weight` says how much it counts. "subject" and "frames" are for the video model: what to show, and how to begin
    and end. `pictures` are by role, and none are there before they are fetched. `character` is the user's and the
    character's id, as a path. `asked` is the type of reference as the payload calls it.
    """

    use: GuideUse
    change: float = 0.5
    weight: float = 0.5
    copy: bool = False
    character: str | None = None
    asked: str | None = None
    pictures: Mapping[str, Picture] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """One message of the queue, checked. `config` and `metadata` are the client's, snake_cased, never trusted.

    `consent` is what covers `consent_id`, as the platform signed it. `character` is all text about a character.
    """

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
    consent: Mapping[str, Any] = field(default_factory=dict)
    character: str = ""
    rating: Rating | None = None
    tier: str | None = None
    raw_prompt: bool = False
    compel_weights: str = ""
    references: tuple[Reference, ...] = ()
    reference_wishes: Mapping[str, Any] = field(default_factory=dict)


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
    loras: tuple[Lora, ...] = ()
    adjusted: Mapping[str, list[Any]] = field(default_factory=dict)
    guide: Guide | None = None
    turbo: Turbo = Turbo()


@dataclass(frozen=True, slots=True)
class Output:
    """The pixels of one asset, in host memory. `frames` has shape (frames, height, width, 3), uint8, sRGB.

    `thumbnail` (height, width, 3) is there where it must not be made of the frames alone, since it carries a mark.
    """

    index: int
    seed: int
    frames: NDArray[np.uint8]
    thumbnail: NDArray[np.uint8] | None = None


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
    def files(self) -> tuple[Path, ...]:
        return (self.path,) if self.thumbnail is None else (self.path, self.thumbnail)

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
