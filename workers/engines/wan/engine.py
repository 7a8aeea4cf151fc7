"""One frame or a clip from text: the video model loaded once, warmed up once, never reloaded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.card import compiled, gpu, kernels, weights
from workers.engines import fit
from workers.engines.conditioning import Conditioning
from workers.engines.loras import EMPTY, Merged, Shelf
from workers.engines.practice import practice
from workers.engines.wan import convert, names, pipeline
from workers.engines.wan.begin import encode
from workers.engines.wan.curve import Curve, measuring
from workers.engines.wan.decode import decode
from workers.engines.wan.denoise import Denoiser, Given
from workers.engines.wan.encode import TextEncoder
from workers.engines.wan.vace import Control, Vace, present
from workers.engines.wan.vae import fuse_vae
from workers.job import GuideUse, Output, SamplingParams, Turbo
from workers.logs import describe, log
from workers.references.guide import REFERENCE
from workers.watch import Watch, spent

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Shape = tuple[int, int, int]
EIGHT_BITS = Turbo(on=True, precision="fp8")


class WanEngine:
    """Wan 2.1 T2V 1.3B from the folder `root`, in its authors' layout or that of diffusers.

    The authors' layout is converted once to `converted`, by default a sibling of `root`. `warm_up_shapes` are
    (width, height, frames) whose first job shall be as fast as the next; `cache` keeps compiled code. `vace` is used
    for references where it is there. `eight_bits`: be ready for jobs that want their products in them; `curve`: for
    those that reuse by magnitude. On a card that would not `leave` so many bytes to others, the text encoder waits in
    host memory. Files that somebody will `read_next` come into the page cache during warm-up, when the disk is idle.
    """

    model_hash: str | None = None

    def __init__(
        self,
        root: Path,
        *,
        device: str,
        converted: Path | None = None,
        warm_up_shapes: Sequence[Shape] = (),
        cache: Path | None = None,
        model_name: str = "wan_2_1_1_3b",
        loras: Shelf = EMPTY,
        vace: Path | None = None,
        eight_bits: bool = False,
        curve: Curve | None = None,
        leave: int = 0,
        read_next: Sequence[Path] = (),
    ) -> None:
        self.model_name = model_name
        self._root = root
        self._converted = converted or root.with_name(root.name + "-diffusers")
        self._device = device
        self._warm_up_shapes = warm_up_shapes
        self._cache = cache
        self._vace_folder = vace
        self._eight_bits = eight_bits
        self._curve = curve
        self._leave, self._read_next = leave, read_next
        self._vace: Vace | None = None
        self._merged, self._for_vace = Merged(loras), Merged(loras)
        self._practised: set[Shape] = set()
        self._met: set[Shape] = set()
        self._pipeline: Any = None
        self._text: TextEncoder | None = None
        self._denoiser: Denoiser | None = None

    @property
    def uses(self) -> frozenset[GuideUse]:
        return frozenset(("start", "subject", "frames")) if present(self._vace_folder) else frozenset(("start",))

    def load(self, watch: Watch) -> None:
        """Put the model on the device, converting it first where needed. Raises `Misconfigured` or `EngineBroken`."""
        with watch.phase("load"), gpu.guard():
            folder = convert.ready_folder(self._root, self._converted, watch)
            self.adopt(pipeline.load(folder, self._device, watch))
            self._make_room()
            if self._vace_folder is not None and present(self._vace_folder):
                self._vace = Vace(self._vace_folder, self._device, watch)
                self._for_vace.over({self._vace.transformer: names.lora_names})

    def _make_room(self) -> None:
        if gpu.crowded(self._device, self._leave):
            self._loaded_text().park()
            log.info("text encoder parked", needed=self._leave)

    def adopt(self, loaded: Any) -> None:
        """Take over a `WanPipeline` whose models are on the device."""
        self._pipeline, self._text = loaded, TextEncoder(loaded, self._device)
        if gpu.on_card(self._device):
            kernels.keep_in(self._cache)
            fuse_vae(loaded.vae)
            if self._eight_bits:
                compiled.keep_in(self._cache)
        self._denoiser = Denoiser(loaded, self._device, self._eight_bits, self._curve)
        self._merged.over({loaded.transformer: names.lora_names}, self._denoiser.refresh)

    def warm_up(self, watch: Watch) -> None:
        """One step of each shape: kernels are chosen and compiled, and memory is taken, now and not during a job."""
        with weights.reading_ahead(self._read_next):
            with gpu.guard(), watch.phase("warm_up"):
                self._loaded_text().prepare()
                self._loaded_denoiser().choose_attention(self._warm_up_shapes)
            for shape in self._warm_up_shapes:
                self._practise(shape, watch)

    @property
    def unrehearsed(self) -> bool:
        return not self._met <= self._practised

    def rehearse(self, watch: Watch) -> None:
        """What warm-up does, for one shape that came since and has no graph yet, or nothing compiled in 8 bits: other
        clips are fast in any. Not again where it fails."""
        shape = min(self._met - self._practised)
        try:
            self._practise(shape, watch)
            log.info("rehearsed", width=shape[0], height=shape[1], frames=shape[2], **spent(watch.timings))
        except RuntimeError as error:  # what compilers and cards raise
            log.warning("rehearsal failed", width=shape[0], height=shape[1], frames=shape[2], **describe(error))

    def generate(self, params: SamplingParams, watch: Watch) -> list[Output]:
        """One output per seed, one after the other. What the watch raises passes through, and the engine stays
        usable; `EngineBroken` means a new process."""
        merged = self._for_vace if params.guide is not None and params.guide.use != "start" else self._merged
        merged.wear(params.loras, watch)
        if params.guide is None and (params.frames == 1 or self._eight_bits):
            self._met.add((params.width, params.height, params.frames))
        with gpu.guard(), watch.phase("encode_text"):
            negative = params.negative_prompt if params.guidance > 1 else None
            text = self._loaded_text().encode(params.prompt, negative)
        watch.notes.update(text.notes)
        given = self._given(params, watch)
        return [Output(i, seed, self._frames(seed, params, text, given, watch)) for i, seed in enumerate(params.seeds)]

    def calibrate(self, params: SamplingParams, watch: Watch) -> Curve:
        """By one clip. Other clips of this engine may reuse by it from now on."""
        with measuring(self._pipeline.transformer) as measured:
            self.generate(params, watch)
        self._curve = measured.curve()
        self._loaded_denoiser().follow(self._curve)
        return self._curve

    def count_tokens(self, text: str) -> int:
        """Tokens of a prompt as this model reads it, without the end mark; 511 fit."""
        return self._loaded_text().count(text)

    def forget(self) -> None:
        if self._text is not None:
            self._text.forget()

    def unload(self) -> None:
        self._pipeline = self._text = self._denoiser = None
        self._merged.over({})
        gpu.empty()

    def _practise(self, shape: Shape, watch: Watch) -> None:
        self._practised.add(shape)
        width, height, frames = shape
        denoiser = self._loaded_denoiser()
        with gpu.guard(), watch.phase("warm_up"), denoiser.compiling():
            denoiser.prepare(width, height, frames)
            asked = practice(width, height, frames=frames)
            self.generate(asked, watch)
            if self._eight_bits and frames > 1:
                self.generate(replace(asked, turbo=EIGHT_BITS), watch)

    def _loaded_denoiser(self) -> Denoiser:
        if self._denoiser is None:
            raise RuntimeError("The engine is used before load().")
        return self._denoiser

    def _loaded_text(self) -> TextEncoder:
        if self._text is None:
            raise RuntimeError("The engine is used before load().")
        return self._text

    def _given(self, params: SamplingParams, watch: Watch) -> Given:
        """What the job's references become: latents to begin from, or frames for VACE; None without references."""
        guide = params.guide
        if guide is None:
            return None

        def encoded() -> Given:
            if guide.use != "start" and self._vace is not None:
                return self._vace.control(params, self._pipeline.vae)
            pixels = fit.filling(guide.pictures[REFERENCE], (params.width, params.height))[: params.frames]
            return encode(self._pipeline.vae, fit.tensor(pixels))

        with watch.phase("encode_image"):
            return gpu.with_one_retry(encoded, encoded)

    def _frames(
        self, seed: int, params: SamplingParams, text: Conditioning, given: Given, watch: Watch
    ) -> NDArray[np.uint8]:
        """Each half has a second try, for when the other process on the card had just taken the room."""

        def denoised() -> torch.Tensor:
            with self._vace.visiting() if self._vace and isinstance(given, Control) else nullcontext():
                return self._denoised(seed, params, text, given, watch)

        with watch.phase("denoise"):
            latents = gpu.with_one_retry(denoised, denoised)
        trim = gpu.trim if params.frames > 1 else lambda: None
        with watch.phase("decode"):
            trim()
            frames = gpu.with_one_retry(
                lambda: decode(self._pipeline.vae, latents, watch),
                lambda: decode(self._pipeline.vae, latents, watch, tiled=True),
            )
            trim()
            return frames

    def _denoised(
        self, seed: int, params: SamplingParams, text: Conditioning, given: Given, watch: Watch
    ) -> torch.Tensor:
        latents = self._loaded_denoiser().latents(seed, params, text, watch, given)
        if not latents.isfinite().all():
            raise FloatingPointError("The denoiser gave values that are not numbers.")
        return latents
