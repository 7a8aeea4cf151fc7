"""Pictures from SDXL: loaded once, warmed up once, never reloaded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.card import gpu, weights
from workers.engines import fit
from workers.engines.conditioning import Conditioning
from workers.engines.loras import EMPTY, Merged, Shelf
from workers.engines.practice import practice
from workers.engines.sdxl import fast, load, names, schedulers, turbo, vae
from workers.engines.sdxl.adapter import Adapter, AdapterFiles
from workers.engines.sdxl.characters import Characters
from workers.engines.sdxl.encode import TextEncoder
from workers.job import Guide, GuideUse, Output, SamplingParams
from workers.references.guide import REFERENCE
from workers.watch import Watch

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

WARM_UP_IMAGES = (6, 1)
"""Numbers that jobs ask for; three are made as one half of six is."""
WARM_UP_NEGATIVE = ", ".join(["blurry"] * 90)
"""Three chunks of text, as a client's negative prompt and ours make together."""


class SdxlEngine:
    """One SDXL checkpoint on one device.

    `config` is a folder in diffusers layout; by default one of that name beside the checkpoint, else the shipped one.
    `cache` keeps compiled kernels, `characters` what `adapter`, where it is there, saw of characters.
    """

    model_hash: str | None = None
    unrehearsed = False  # its kernels know no sizes

    def __init__(
        self,
        checkpoint: Path,
        *,
        device: str,
        config: Path | None = None,
        cache: Path | None = None,
        name: str = "lustify_sdxl",
        loras: Shelf = EMPTY,
        adapter: AdapterFiles | None = None,
        characters: Path | None = None,
    ) -> None:
        self.model_name = name
        self._adapter_files = adapter
        self._characters = Characters(characters or checkpoint.parent / "characters")
        self._adapter: Adapter | None = None
        self._checkpoint = checkpoint
        self._config = config or load.config_for(checkpoint)
        self._device, self._cache = device, cache
        self._merged = Merged(loras)
        self._pipeline: Any = None
        self._texts: TextEncoder | None = None
        self._solvers: schedulers.Solvers | None = None

    @property
    def uses(self) -> frozenset[GuideUse]:
        shows = self._adapter_files is not None and self._adapter_files.present
        return frozenset(("start", "style", "character")) if shows else frozenset(("start",))

    def load(self, watch: Watch) -> None:
        """Read the checkpoint and put it on the device. Raises `Misconfigured` or `EngineBroken`."""
        with watch.phase("load"), gpu.guard(), ThreadPoolExecutor(1, thread_name_prefix="hash") as pool:
            weights.check_safetensors(self._checkpoint, load.KEY_GROUPS)
            digest = pool.submit(weights.file_hash, self._checkpoint)
            self.adopt(load.load_pipeline(self._checkpoint, self._config, self._device, watch.step))
            self.model_hash = digest.result()[:10]
            if self._adapter_files is not None and self._adapter_files.present:
                self._adapter = Adapter(self._adapter_files, self._pipeline)

    def adopt(self, pipeline: Any) -> None:
        """Work with this pipeline, which is on the device."""
        load.prepare(pipeline, self._cache)
        self._pipeline = pipeline
        self._solvers = schedulers.Solvers(dict(pipeline.scheduler.config))
        self._texts = TextEncoder(pipeline)
        self._merged.over(names.lora_networks(pipeline), self._weights_changed)

    def warm_up(self, watch: Watch) -> None:
        """Two steps of every batch at the model's own size, with as much text as usual, so that the first job meets
        nothing new."""
        side = self._pipeline.unet.config.sample_size * self._pipeline.vae_scale_factor
        with watch.phase("warm_up"):
            if gpu.on_card(self._device):
                fast.choose_attention(self._pipeline, max(WARM_UP_IMAGES))
            with fast.recording(self._pipeline):
                for images in WARM_UP_IMAGES:
                    asked = practice(side, side, images=images, steps=2)
                    self.generate(replace(asked, negative_prompt=WARM_UP_NEGATIVE), watch)

    def rehearse(self, watch: Watch) -> None: ...

    def generate(self, params: SamplingParams, watch: Watch) -> list[Output]:
        """One picture per seed, each the same whatever its batch. What `watch.step` raises passes through, and the
        engine stays usable; `EngineBroken` means a new process.

        Where the card has no room for the batch, its halves are made one after the other.
        """
        self._merged.wear(params.loras, watch)
        with gpu.guard(), watch.phase("encode_text"):
            text = self._loaded_texts().encode(params.prompt, params.negative_prompt)
        watch.notes.update(text.notes)
        start, text = self._start(params, watch), self._with_picture(text, params, watch)
        seeds = params.seeds
        middle = (len(seeds) + 1) // 2

        def made(seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
            with self._showing(params.guide):
                return self._pictures(seeds, params, text, start, watch)

        pictures = gpu.with_one_retry(
            lambda: made(seeds), lambda: [p for half in (seeds[:middle], seeds[middle:]) for p in made(half)]
        )
        gpu.trim()
        return [Output(i, seed, picture) for i, (seed, picture) in enumerate(zip(seeds, pictures, strict=True))]

    def count_tokens(self, text: str) -> int:
        """Tokens of a prompt as this model reads it, without marks and weights; 75 fit into one chunk."""
        return self._loaded_texts().count(text)

    def forget(self) -> None:
        if self._texts is not None:
            self._texts.forget()

    def unload(self) -> None:
        self._pipeline = self._texts = None
        self._merged.over({})
        gpu.empty()

    def _weights_changed(self) -> None:
        fast.refresh(self._pipeline)
        self._loaded_texts().forget()

    def _loaded_texts(self) -> TextEncoder:
        if self._texts is None:
            raise RuntimeError("The engine is used before load().")
        return self._texts

    def _start(self, params: SamplingParams, watch: Watch) -> torch.Tensor | None:
        """The latent of the picture that the job begins from, None where it begins from noise."""
        guide = params.guide
        if guide is None or guide.use != "start":
            return None
        with gpu.guard(), watch.phase("encode_image"):
            pixels = fit.filling(guide.pictures[REFERENCE], (params.width, params.height))
            return vae.encode(self._pipeline.vae, fit.tensor(pixels))

    def _with_picture(self, text: Conditioning, params: SamplingParams, watch: Watch) -> Conditioning:
        """What the denoiser reads, and for a style or a character what it is shown of it."""
        guide = params.guide
        if guide is None or guide.use == "start":
            return text
        if self._adapter is None:
            raise RuntimeError(f"The engine is asked for a {guide.use}, which is not among its uses.")
        with gpu.guard(), watch.phase("encode_image"):
            seen = self._characters.see(guide, self._adapter)
            embeds = seen.embeds.to(self._device, self._pipeline.unet.dtype)
        watch.notes["reference_sha256"] = {REFERENCE: seen.picture}
        return replace(text, inputs={**text.inputs, "ip_adapter_image_embeds": [embeds[params.guidance <= 1 :]]})

    def _showing(self, guide: Guide | None) -> AbstractContextManager[None]:
        if self._adapter is None or guide is None or guide.use == "start":
            return nullcontext()
        return self._adapter.shown(guide)

    def _pictures(
        self,
        seeds: Sequence[int],
        params: SamplingParams,
        text: Conditioning,
        start: torch.Tensor | None,
        watch: Watch,
    ) -> list[NDArray[np.uint8]]:
        if not seeds:
            return []
        with watch.phase("denoise"):
            latents = self._denoised(params, text, self._first(seeds, params, start), watch)
        with watch.phase("decode"):
            return [self._decoded(latents, i, watch) for i in range(len(seeds))]

    def _first(self, seeds: Sequence[int], params: SamplingParams, start: torch.Tensor | None) -> torch.Tensor:
        """What the solver, which is set for this job, begins from: noise, or the way from it to a picture."""
        assert self._solvers is not None
        self._pipeline.scheduler = self._solvers.make(params.solver)
        noise = self._noise(seeds, params)
        if start is None or params.guide is None:
            return noise
        begun: torch.Tensor = self._pipeline.scheduler.begin(start, noise.float(), params.steps, params.guide.change)
        return begun.to(noise.dtype)

    def _denoised(self, params: SamplingParams, text: Conditioning, first: torch.Tensor, watch: Watch) -> torch.Tensor:
        """Latents (images, 4, height / 8, width / 8)."""
        pace = gpu.pace(self._device)

        def step_ended(pipeline: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            pace()
            watch.step(step + 1, pipeline.num_timesteps)
            return tensors

        with turbo.partly(self._pipeline.unet, params):
            latents: torch.Tensor = self._pipeline(
                **text.inputs,
                num_images_per_prompt=len(first),
                latents=first,
                width=params.width,
                height=params.height,
                num_inference_steps=params.steps,
                guidance_scale=params.guidance,
                callback_on_step_end=step_ended,
                output_type="latent",
            ).images
        if not latents.isfinite().all():
            raise FloatingPointError("The denoiser gave values that are not numbers.")
        return latents

    def _noise(self, seeds: Sequence[int], params: SamplingParams) -> torch.Tensor:
        """One generator per image, drawn in float32 on the host: a seed means the same noise on every device, in
        every precision and in every batch."""
        import torch

        unet, scale = self._pipeline.unet, self._pipeline.vae_scale_factor
        shape = (1, unet.config.in_channels, params.height // scale, params.width // scale)
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.cat(noise).to(self._device, unet.dtype)

    def _decoded(self, latents: torch.Tensor, index: int, watch: Watch) -> NDArray[np.uint8]:
        picture = vae.decode(self._pipeline.vae, latents[index : index + 1])
        watch.step(index + 1, len(latents))
        return picture
