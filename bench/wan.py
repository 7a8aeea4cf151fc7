"""The video model with random weights against plain diffusers, in one run: `python -m bench.wan`.

Both paint the same seeds. Plain is `WanPipeline` in bf16 with its VAE in float32, as its documentation has it. Every
run has a prompt of its own, so that no embedding is remembered but the negative prompt's. Without a card, or with
`--small`, small weights stand in.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from bench.frame import Ceilings, Row, ceilings, footprint, head, interleaved, psnr, say, table_head, timed
from workers.card import gpu
from workers.card.weights import quiet_libraries
from workers.engines.wan import WanEngine
from workers.engines.wan.originals import TOKENIZER
from workers.job import SamplingParams
from workers.settings import CONFIG_DIR
from workers.tiny import wan as tiny
from workers.watch import Watch

TFLOP = {1: (9.28, 15.0), 81: (566.0, 285.0)}
"""Frames -> a step with both texts; text encoder and VAE together. At 480x832."""


@dataclass(frozen=True, slots=True)
class Bench:
    """`config`: the sizes of the models. `clip`: frames of a clip. `cache`: where compiled code is kept."""

    device: str
    config: Path
    tokenizer: Path
    cache: Path | None
    size: tuple[int, int]
    clip: int

    def pipeline(self, seed: int = 0) -> Any:
        """The same weights at every call, in bf16 on a card with what must stay float32 in float32."""
        import diffusers
        import transformers

        torch.manual_seed(seed)
        dtype = gpu.dtype_for(self.device, "bfloat16")
        with torch.device(self.device), default_dtype(dtype):
            transformer = diffusers.WanTransformer3DModel.from_config(self._json("transformer"))
            vae = diffusers.AutoencoderKLWan.from_config(self._json("vae"))
            text = transformers.UMT5EncoderModel(transformers.UMT5Config(**self._json("text_encoder")))
        for name, parameter in transformer.named_parameters():
            if set(name.split(".")) & set(transformer._keep_in_fp32_modules):
                parameter.data = parameter.data.float()
        made = diffusers.WanPipeline(
            tokenizer=transformers.AutoTokenizer.from_pretrained(self.tokenizer),
            text_encoder=text.eval(),
            transformer=transformer.eval(),
            vae=vae.eval(),
            scheduler=diffusers.UniPCMultistepScheduler.from_pretrained(self.config / "scheduler"),
        )
        made.set_progress_bar_config(disable=True)
        return made

    def engine(self, *, eight_bits: bool = False) -> WanEngine:
        width, height = self.size
        shapes = [(w, h, frames) for frames in (1, self.clip) for w, h in ((width, height), (height, width))]
        where = Path("random weights")
        made = WanEngine(where, device=self.device, cache=self.cache, warm_up_shapes=shapes, eight_bits=eight_bits)
        made.adopt(self.pipeline())
        return made

    def params(self, frames: int, steps: int) -> SamplingParams:
        width, height = self.size
        return SamplingParams(
            type="video_fast", media="video", width=width, height=height, frames=frames, steps=steps, guidance=6.5,
            seeds=(7,), solver="unipc", shift=5.0, quality="fast", prompt="a lighthouse at dusk",
            negative_prompt="blurry, low quality",
        )  # fmt: skip

    def _json(self, part: str) -> Any:
        return json.loads((self.config / part / "config.json").read_text())


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 is computed in the matrix units' shorter form; afterwards as the libraries have it."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True


def plain(pipe: Any, asked: SamplingParams) -> Any:
    """Frames with values from 0 to 1."""
    pipe.scheduler = pipe.scheduler.from_config(pipe.scheduler.config, flow_shift=asked.shift)
    return pipe(
        asked.prompt, negative_prompt=asked.negative_prompt, width=asked.width, height=asked.height,
        num_frames=asked.frames, num_inference_steps=asked.steps, guidance_scale=asked.guidance,
        generator=torch.Generator().manual_seed(asked.seeds[0]), output_type="np",
    ).frames[0]  # fmt: skip


def ours(made: WanEngine, asked: SamplingParams) -> Any:
    return made.generate(asked, Watch())[0].frames


def in_turn(bench: Bench, made: WanEngine, pipe: Any, asked: SamplingParams, runs: int, discard: int) -> Any:
    numbers = count()

    def next_one() -> SamplingParams:
        return replace(asked, prompt=f"{asked.prompt}, number {next(numbers)}")

    cases: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain(pipe, next_one()),
        "ours": lambda: ours(made, next_one()),
    }
    return interleaved(cases, runs, bench.device, discard=discard)


def fidelity(made: WanEngine, pipe: Any, exact: Any, asked: SamplingParams, *, short: bool) -> str:
    """Decibels against the same in float32, or in TF32 if `short`: ours and plain."""
    with tf32(short):
        truth = plain(exact, asked)
    return f"{psnr(ours(made, asked) / 255, truth)} dB, plain {psnr(plain(pipe, asked), truth)}"


def floor(frames: int, steps: int, found: Ceilings) -> float:
    step, rest = TFLOP.get(frames, (0.0, 0.0))
    return (steps * step + rest) * 1e12 / found.flops


def rows(bench: Bench, made: WanEngine, found: Ceilings, asked: argparse.Namespace) -> Iterator[Row]:
    pipe, exact = bench.pipeline(), bench.pipeline()
    for part in (pipe.vae, exact.vae, exact.transformer, exact.text_encoder):
        part.float()
    image = bench.params(1, asked.steps)
    against = fidelity(made, pipe, exact, image, short=False)
    times = in_turn(bench, made, pipe, image, asked.runs, 1)
    yield Row(f"1 frame, {asked.steps} steps", **times, floor=floor(1, asked.steps, found), fidelity=against)
    if not asked.runs_of_video + asked.runs_of_whole_video:
        return
    clip = bench.params(bench.clip, 2)
    against = "2 steps against TF32: " + fidelity(made, pipe, exact, clip, short=True)  # float32 would take minutes
    del exact
    gc.collect()
    gpu.empty()
    for steps, runs, discard in ((3, asked.runs_of_video, 1), (asked.steps, asked.runs_of_whole_video, 0)):
        if runs:
            times = in_turn(bench, made, pipe, bench.params(bench.clip, steps), runs, discard)
            need = floor(bench.clip, steps, found)
            yield Row(f"{bench.clip} frames, {steps} steps", **times, floor=need, fidelity=against)


def repeats(made: WanEngine, asked: SamplingParams) -> str:
    same = (ours(made, asked) == ours(made, asked)).all()
    return f"the same seed gives the same pixels: {bool(same)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--runs-of-video", type=int, default=3, help="of three steps; 0 leaves them out")
    parser.add_argument("--runs-of-whole-video", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="where compiled code is kept; default: nowhere")
    parser.add_argument("--only-start", action="store_true", help="warm up, say how long it took, and end")
    asked = parser.parse_args()
    small = asked.small or not torch.cuda.is_available()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        tiny.write(Path(folder))
        root = Path(folder) / tiny.FOLDER
        sizes = ("cpu", root / "config") if small else ("cuda", CONFIG_DIR / "wan")
        size, clip = ((64, 112), 5) if small else ((480, 832), 81)
        measure(Bench(*sizes, root / TOKENIZER, asked.cache, size, clip), asked)


def measure(bench: Bench, asked: argparse.Namespace) -> None:
    found = ceilings(bench.device)
    gpu.empty()
    say(head(bench.device, found))
    made = bench.engine()
    say(f"warm-up of four shapes: {timed(lambda: made.warm_up(Watch()), bench.device):.1f} s")
    ours(made, bench.params(bench.clip, 1))
    say(footprint(bench.device), repeats(made, bench.params(1, asked.steps)))
    if not asked.only_start:
        say(table_head())
        for row in rows(bench, made, found, asked):
            say(row)


if __name__ == "__main__":
    main()
