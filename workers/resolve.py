"""A job and its preset become sampling parameters: wishes are honoured within bounds, and moves are reported."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, TypeGuard

from workers.errors import Rejected
from workers.job import Job, Preset, SamplingParams, Size, Turbo
from workers.loras import Offered, wanted
from workers.references.guide import guide_for

STEPS = (1, 60)
GUIDANCE = (1.0, 12.0)
UNGUIDED = 1.0
"""For copies: what the text asks for is not to show."""

SHIFT = (1.0, 12.0)
FRAMES = (1, 81)
SOLVERS = ("unipc", "dpm++", "euler")
SIDE_MULTIPLE = 16
SEEDS = 2**32
NO_LORAS: Offered = {}
NO_TURBO = Turbo()
NONE_OF_A_CLIPS = {name: getattr(NO_TURBO, name) for name in ("guided", "reuse", "reuse_by", "precision")}


def resolve(job: Job, preset: Preset, scale: float = 1.0, offered: Offered = NO_LORAS) -> SamplingParams:
    """What the engine is asked for. `scale` shrinks sizes for small weights, to multiples of 16. `offered` are the
    LoRAs that may be asked for.

    Raises `Rejected` where a wish has no sensible nearest value: a number of images that is not offered, or a
    reference that contradicts the rest.
    """
    wishes = _Wishes(job, preset)
    turbo = wishes.turbo
    guide = guide_for(job, preset, wishes.adjusted)
    width, height = scaled(wishes.size(), scale)
    seed = wishes.seed()
    params = SamplingParams(
        type=job.type,
        media=preset.media,
        width=width,
        height=height,
        frames=wishes.frames(),
        steps=wishes.steps(),
        guidance=UNGUIDED if guide and guide.copy else wishes.guidance(),
        shift=preset.shift and wishes.number("shift", preset.shift, SHIFT, "sample_shift"),
        solver=wishes.solver(),
        seeds=tuple((seed + i) % SEEDS for i in range(wishes.outputs())),
        quality=preset.quality,
        loras=wanted(job, preset.kind, offered, wishes.adjusted) + ((turbo.lora,) if turbo.lora else ()),
        adjusted=wishes.adjusted,
        guide=guide,
        turbo=turbo,
    )
    return fitting(params)


def fitting(params: SamplingParams) -> SamplingParams:
    """With no more turbo than these jobs can have. Steps of a single picture are bound by launches, and are graphs only
    whole: half of one saves nothing. Pictures that are shown to the model are for all of its steps."""
    single = params.frames == 1 and len(params.seeds) == 1
    shown = params.guide is not None and params.guide.use != "start"
    if not (single or shown):
        return params
    return replace(params, turbo=replace(params.turbo, **NONE_OF_A_CLIPS))


def default_seed(job_id: str) -> int:
    """The first 31 bits of SHA-256 of the job id: the same job gives the same pixels wherever it runs."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4], "big") >> 1


def scaled(size: Size, scale: float) -> Size:
    """A size for weights that work at `scale` times the real ones, in multiples of 16."""
    if scale == 1.0:
        return size
    width, height = (max(SIDE_MULTIPLE, round(side * scale / SIDE_MULTIPLE) * SIDE_MULTIPLE) for side in size)
    return width, height


def stable_size(preset: Preset, params: SamplingParams, scale: float) -> Size | None:
    """The size to go to where one that the model handles badly came out wrong; None where there is none."""
    sizes = {scaled(size, scale): scaled(stable, scale) for size, stable in preset.stable}
    return sizes.get((params.width, params.height))


class _Wishes:
    """The payload's `config` read beside its preset. `adjusted` collects name -> [asked, used]."""

    def __init__(self, job: Job, preset: Preset) -> None:
        self.job, self.preset = job, preset
        self.config = job.config
        self.adjusted: dict[str, list[Any]] = {}

    @property
    def turbo(self) -> Turbo:
        return self.preset.turbo if self.preset.turbo.on else NO_TURBO

    def number(self, name: str, preset: float, bounds: tuple[float, float], *keys: str) -> float:
        asked = self._first(*keys)
        if asked is None:
            return preset
        return self._moved(name, asked, min(max(asked, bounds[0]), bounds[1]))

    def steps(self) -> int:
        few = self.turbo.steps
        bounds = (STEPS[0], few or STEPS[1])
        return round(self.number("steps", few or self.preset.steps, bounds, "sample_steps", "num_inference_steps"))

    def guidance(self) -> float:
        little = self.turbo.guidance
        bounds = (GUIDANCE[0], little or GUIDANCE[1])
        keys = ("sample_guide_scale", "guidance_scale")
        return self.number("guidance", little or self.preset.guidance, bounds, *keys)

    def frames(self) -> int:
        """4n+1, rounded down: the video model's time axis is compressed by four."""
        if self.preset.media == "image":
            return 1
        asked = self._first("frame_num")
        if asked is None:
            return self.preset.frames
        bounded = int(min(max(asked, FRAMES[0]), FRAMES[1]))
        return int(self._moved("frames", asked, bounded - (bounded - 1) % 4))

    def size(self) -> Size:
        """The wished size if the preset offers it, else the preset's own."""
        asked = self._asked_size()
        if asked is None or asked == self.preset.size:
            return self.preset.size
        used = asked if asked in self.preset.sizes else self.preset.size
        if used != asked:
            self.adjusted["size"] = [f"{asked[0]}*{asked[1]}", f"{used[0]}*{used[1]}"]
        return used

    def solver(self) -> str:
        asked = self.config.get("sample_solver") if self.preset.samples_from_config else None
        own = self.turbo.solver or self.preset.solver
        if not isinstance(asked, str) or asked == own:
            return own
        used = asked if asked in SOLVERS and self.turbo.solver is None else own
        if used != asked:
            self.adjusted["solver"] = [asked[:32], used]
        return used

    def outputs(self) -> int:
        offered = self.preset.outputs
        asked = next(
            (v for v in (self.config.get("num_images"), self.job.metadata.get("num_images")) if v is not None),
            None,
        )
        if len(offered) == 1 or asked is None:
            return offered[-1]
        if asked not in offered or isinstance(asked, bool):
            raise Rejected(f"The number of images must be {_either(offered)}.", field="num_images")
        return int(asked)

    def seed(self) -> int:
        """The payload's seed, 0 included; a negative one means "any", as many front ends have it."""
        for source in (self.config, self.job.metadata):
            seed = source.get("seed")
            if _is_number(seed) and seed >= 0:
                return int(seed) % SEEDS
        return default_seed(self.job.id)

    def _asked_size(self) -> Size | None:
        if self.preset.samples_from_config and isinstance(self.config.get("size"), str):
            return _parse_size(self.config["size"], "*")
        if isinstance(self.config.get("resolution"), str):
            return _parse_size(self.config["resolution"], "x")
        width, height = self.config.get("width"), self.config.get("height")
        if _is_number(width) and _is_number(height):
            return int(width), int(height)
        return None

    def _first(self, *keys: str) -> float | None:
        for key in keys:
            meant = self.preset.samples_from_config or not key.startswith("sample_")
            value = self.config.get(key)
            if meant and _is_number(value):
                return float(value)
        return None

    def _moved(self, name: str, asked: float, used: float) -> float:
        if asked != used:
            self.adjusted[name] = [asked, used]
        return used


def _parse_size(text: str, separator: str) -> Size:
    """(0, 0), which no preset offers, for what is not a size."""
    width, _, height = text.partition(separator)
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit() and len(text) <= 16):
        return 0, 0
    return int(width), int(height)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _either(values: tuple[int, ...]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}"
