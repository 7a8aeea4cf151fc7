"""SDXL with random weights of the true sizes against plain diffusers, in one run: `python -m bench.sdxl`.

Both draw the same noise with the same solver; plain makes all images at once and writes files as Pillow does by
default, ours goes the way of a job up to the files of its outbox. Without a card, or with `--small`, small weights
stand in.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.frame import Ceilings, Row, ceilings, footprint, head, interleaved, psnr, say, table_head, timed
from workers import media
from workers.card import gpu
from workers.card.weights import quiet_libraries
from workers.delivery.courier import ENCODERS
from workers.engines.sdxl import SdxlEngine, load
from workers.job import Output, SamplingParams
from workers.settings import CONFIG_DIR
from workers.tiny import sdxl as tiny
from workers.watch import Watch

TFLOP_PER_STEP, TFLOP_PER_DECODE = 2 * 6.76, 10.5
"""Of one image of 1024x1024: a step has a forward pass with the prompt and one with the negative prompt."""
JOBS = ((6, 15), (1, 15), (6, 25))
"""Images, steps."""
PROMPT, NEGATIVE = "a lighthouse at dusk", "blurry"


@dataclass(frozen=True, slots=True)
class Card:
    device: str
    config: Path
    side: int

    @property
    def dtype(self) -> torch.dtype:
        return gpu.dtype_for(self.device, "float16")


def pipeline(card: Card) -> Any:
    """The same weights at every call."""
    from diffusers import StableDiffusionXLPipeline, UniPCMultistepScheduler

    torch.set_default_dtype(card.dtype)
    try:
        with torch.device(card.device):
            parts = tiny.models(card.config, seed=0)
    finally:
        torch.set_default_dtype(torch.float32)
    scheduler = UniPCMultistepScheduler.from_config(UniPCMultistepScheduler.load_config(card.config / "scheduler"))
    made = StableDiffusionXLPipeline(**parts, **load.tokenizers(), scheduler=scheduler, add_watermarker=False)
    made.vae.register_to_config(force_upcast=False)
    made.set_progress_bar_config(disable=True)
    return made


def engine(card: Card) -> SdxlEngine:
    made = SdxlEngine(Path("random weights"), device=card.device, config=card.config)
    made.adopt(pipeline(card))
    return made


def params(card: Card, images: int, steps: int) -> SamplingParams:
    return SamplingParams(
        type="sdxl_image_fast", media="image", width=card.side, height=card.side, frames=1, steps=steps, guidance=6.0,
        seeds=tuple(range(images)), solver="unipc", shift=None, quality="fast", prompt=PROMPT, negative_prompt=NEGATIVE,
    )  # fmt: skip


def plain(pipe: Any, asked: SamplingParams, output: str = "pil") -> Any:
    return pipe(
        asked.prompt, negative_prompt=asked.negative_prompt, width=asked.width, height=asked.height,
        num_inference_steps=asked.steps, guidance_scale=asked.guidance, num_images_per_prompt=len(asked.seeds),
        latents=noise(asked).to(pipe.device, pipe.unet.dtype), output_type=output,
    ).images  # fmt: skip


def noise(asked: SamplingParams) -> torch.Tensor:
    """As the engine draws it: in float32 whatever the model computes in."""
    shape = (1, 4, asked.height // 8, asked.width // 8)
    return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in asked.seeds])


def plain_files(pipe: Any, asked: SamplingParams, folder: Path) -> None:
    for i, picture in enumerate(plain(pipe, asked)):
        picture.save(folder / f"plain-{i}.png")


def our_files(made: SdxlEngine, asked: SamplingParams, folder: Path, watch: Watch) -> None:
    def encode(output: Output) -> None:
        media.encode(output, folder, media="image", fps=16, quality="fast", limit=1 << 30, text={}, thumbnail=False)

    outputs = made.generate(asked, watch)
    with watch.phase("encode"), ThreadPoolExecutor(ENCODERS) as pool:
        list(pool.map(encode, outputs))


def in_turn(card: Card, made: SdxlEngine, pipe: Any, asked: SamplingParams, runs: int) -> tuple[Any, Watch]:
    """Times of both up to their files, and the watch with the sums of our phases."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            "plain": lambda: plain_files(pipe, asked, Path(folder)),
            "ours": lambda: our_files(made, asked, Path(folder), watch),
        }
        return interleaved(cases, runs, card.device), watch


def fidelity(card: Card, made: SdxlEngine, pipe: Any, asked: SamplingParams) -> str:
    """Decibels of one picture against the same in float32; the plain one says what 16 bits cost by themselves."""
    truth = plain(pipeline(card).to(dtype=torch.float32), asked, "np")[0]
    theirs = (plain(pipe, asked, "np")[0] * 255).round() / 255
    ours = made.generate(asked, Watch())[0].frames[0] / 255
    return f"{psnr(ours, truth)} dB, plain {psnr(theirs, truth)}"


def floor(images: int, steps: int, found: Ceilings) -> float:
    return images * (steps * TFLOP_PER_STEP + TFLOP_PER_DECODE) * 1e12 / found.flops


def measure(card: Card, asked: argparse.Namespace) -> None:
    found = ceilings(card.device)
    gpu.empty()
    say(head(card.device, found))
    made = engine(card)
    gpu.empty()
    say(f"warm-up: {timed(lambda: made.warm_up(Watch()), card.device):.1f} s")
    made.generate(params(card, 6, 2), Watch())
    say(footprint(card.device))
    if asked.only_start:
        return
    pipe = pipeline(card)
    checked = fidelity(card, made, pipe, params(card, 1, 15))
    gc.collect()
    gpu.empty()
    say(table_head())
    phases = {}
    for images, steps in ((images, steps) for images, steps in JOBS if steps in asked.steps):
        times, watch = in_turn(card, made, pipe, params(card, images, steps), asked.runs)
        say(Row(f"{images} x {steps} steps, to files", **times, floor=floor(images, steps, found), fidelity=checked))
        phases[f"{images} x {steps}"] = {name: round(s / (asked.runs + 1), 3) for name, s in watch.timings.items()}
    say("", f"seconds of ours by phase, mean of all runs: {phases}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs="*", default=[15, 25])
    parser.add_argument("--only-start", action="store_true", help="warm up, say how long it took, and end")
    asked = parser.parse_args()
    small = asked.small or not torch.cuda.is_available()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        tiny.write_config(Path(folder))
        measure(Card("cpu", Path(folder), 64) if small else Card("cuda", CONFIG_DIR / "sdxl", 1024), asked)


if __name__ == "__main__":
    main()
