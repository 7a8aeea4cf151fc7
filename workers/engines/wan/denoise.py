"""From noise to latents: the pipeline's loop, in which nothing waits for the card.

The transformer answers "velocity": where the latents should move, for a prompt, at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, Union

from workers.card import attention, compiled, gpu
from workers.card.compiled import TUNED
from workers.engines.wan import fused, schedulers
from workers.engines.wan.begin import Late
from workers.engines.wan.criteria import ByFirstBlock, ByMagnitude, BySpectrum
from workers.engines.wan.curve import Curve
from workers.engines.wan.eight_bits import EightBits
from workers.engines.wan.graphs import Graph, Texts
from workers.engines.wan.shared import FirstBlock, halve
from workers.engines.wan.solve import Solved, Table, solve
from workers.engines.wan.turbo import Criterion, partly, reusing
from workers.engines.wan.vace import Control
from workers.references.guide import skipped

if TYPE_CHECKING:
    from torch import Tensor

    from workers.engines.conditioning import Conditioning
    from workers.job import SamplingParams, Turbo
    from workers.watch import Watch

SOLVED = 32
"""Schedules whose table is kept."""

Schedule = tuple[str, float | None, int, int]
"""Solver, shift, steps, and how many of them are left out at the beginning."""

Given = Union["Tensor", Control, None]
"""Latents to begin from, or what is read beside the text."""


Velocity = Callable[["Tensor", "Tensor"], "Tensor"]


class Solver(Protocol):
    """What of a diffusers scheduler is used here. Latents are float32."""

    timesteps: Tensor

    def step(self, velocity: Tensor, time: Tensor, latents: Tensor, return_dict: bool) -> tuple[Tensor, ...]: ...


class Denoiser:
    """The pipeline's transformer and what makes it fast on a card: fused weights, kernels of our own, graphs; and
    `eight_bits` in compiled blocks and a `curve` of magnitudes, for jobs that want them."""

    def __init__(self, pipeline: Any, device: str, eight_bits: bool = False, curve: Curve | None = None) -> None:
        self._pipeline, self._device, self._curve = pipeline, device, curve
        self._schedule = dict(pipeline.scheduler.config)
        self._graphs: dict[tuple[int, ...], Graph] = {}
        self._texts: Texts | None = None
        self._solved = lru_cache(maxsize=SOLVED)(self._solve)
        if gpu.on_card(device):
            fused.fuse_transformer(pipeline.transformer)
        self._eight_bits = EightBits(pipeline.transformer, self._compiled) if eight_bits else None
        self._first = self._halved(pipeline.transformer.blocks)

    def follow(self, curve: Curve) -> None:
        self._curve = curve

    def refresh(self) -> None:
        """After weights were changed in place."""
        if self._eight_bits is not None:
            self._eight_bits.refresh()

    def choose_attention(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        """By what takes most of the card's time: that of the most tokens among shapes (width, height, frames)."""
        if not shapes or not gpu.on_card(self._device):
            return
        sizes = self._pipeline.transformer.config
        tokens = max(self._noise(*shape, 0).numel() for shape in shapes) // sizes.in_channels // 4
        heads = (1, sizes.num_attention_heads, tokens, sizes.attention_head_dim)
        attention.choose(attention.on_this_card(heads, "bfloat16", self._device))

    def compiling(self) -> AbstractContextManager[None]:
        """Inside, what is compiled by shape is compiled for new ones: blocks in 8 bits, on a card."""
        return compiled.compiling() if self._eight_bits and gpu.on_card(self._device) else nullcontext()

    def prepare(self, width: int, height: int, frames: int) -> None:
        """Make the jobs of a shape fast, on a card: one frame gets a graph, more are the card's limit anyway."""
        shape = tuple(self._noise(width, height, frames, 0).shape)
        if frames == 1 and gpu.on_card(self._device) and shape not in self._graphs:
            transformer = self._pipeline.transformer
            self._texts = self._texts or Texts(transformer)
            self._graphs[shape] = Graph(transformer, self._texts, self._first.shared, shape)

    def latents(
        self, seed: int, params: SamplingParams, text: Conditioning, watch: Watch, given: Given = None
    ) -> Tensor:
        """(1, 16, (frames + 3) / 4, height / 8, width / 8) in float32."""
        control = given if isinstance(given, Control) else None
        start = None if isinstance(given, Control) else given
        shown = control.shown if control else 0
        noise = self._noise(params.width, params.height, params.frames + 4 * shown, seed)
        left_out = 0 if start is None or params.guide is None else skipped(params.steps, params.guide.change)
        schedule = (params.solver, params.shift, params.steps, left_out)
        first = noise if start is None else self._scheduler(*schedule).towards(start, noise)
        solver, turbo = self._solver(schedule, first), params.turbo
        if control is not None:
            return denoise(control.velocity(text, params.guidance), solver, first, watch)[:, :, shown:]
        velocity = self._velocity(noise, text, params, len(solver.timesteps))
        with ExitStack() as worn:
            if turbo.precision is not None:
                worn.enter_context(self._rounded().worn())
            if turbo.reuse:
                criterion = self._criterion(turbo, noise, solver.timesteps.tolist())
                velocity = worn.enter_context(reusing(self._pipeline.transformer, criterion, velocity))
            return denoise(velocity, solver, first, watch)

    def _halved(self, blocks: Sequence[Any]) -> FirstBlock:
        first, *others = blocks
        if gpu.on_card(self._device):
            for block in others:
                halve(block)
        return FirstBlock(first)

    def _compiled(self, blocks: Sequence[Any]) -> FirstBlock:
        first, *others = blocks
        if not gpu.on_card(self._device):
            return FirstBlock(first)
        for block in others:
            block.compile(fullgraph=True, dynamic=False, options=TUNED)
        return FirstBlock(first, compiled.compiled)

    def _criterion(self, turbo: Turbo, noise: Tensor, times: list[float]) -> Criterion:
        transformer = self._pipeline.transformer
        if turbo.reuse_by == "magnitude":
            if self._curve is None:
                raise RuntimeError("The engine was made without a curve of magnitudes.")
            return ByMagnitude(self._curve.at(times), turbo.reuse)
        if turbo.reuse_by == "spectrum":
            patches = zip(noise.shape[2:], transformer.config.patch_size, strict=True)
            shares = [time / self._schedule["num_train_timesteps"] for time in times]
            return BySpectrum(transformer.blocks[0], [side // patch for side, patch in patches], shares, turbo.reuse)
        return ByFirstBlock(turbo.reuse)

    def _rounded(self) -> EightBits:
        if self._eight_bits is None:
            raise RuntimeError("The engine was made without eight_bits.")
        return self._eight_bits

    def _solver(self, schedule: Schedule, first: Tensor) -> Solver:
        return Solved(self._solved(schedule), first) if gpu.on_card(self._device) else self._scheduler(*schedule)

    def _solve(self, schedule: Schedule) -> Table:
        return solve(self._scheduler(*schedule), self._device)

    def _scheduler(self, name: str, shift: float | None, steps: int, left_out: int = 0) -> Late:
        scheduler: Any = schedulers.make(name, shift, self._schedule)
        scheduler.set_timesteps(steps)
        return Late(scheduler, left_out)

    def _velocity(self, noise: Tensor, text: Conditioning, params: SamplingParams, steps: int) -> Velocity:
        transformer, graph = self._pipeline.transformer, self._graphs.get(tuple(noise.shape))
        wanted = text.inputs["prompt_embeds"].to(transformer.dtype)
        unwanted = text.inputs.get("negative_prompt_embeds")
        alone = one_by_one(transformer, wanted, None, params.guidance)
        if unwanted is None:
            return alone
        if graph is not None and graph.fits(wanted):
            return graph.velocity(wanted, unwanted.to(transformer.dtype), params.guidance)
        first = self._first if params.turbo.precision is None else self._rounded().first
        guided = one_by_one(transformer, wanted, unwanted.to(transformer.dtype), params.guidance, together=first.shared)
        return partly(guided, alone, params.turbo, steps)

    def _noise(self, width: int, height: int, frames: int, seed: int) -> Tensor:
        """Drawn on the host: a seed means the same on every device."""
        import torch

        generator, channels = torch.Generator().manual_seed(seed), self._pipeline.transformer.config.in_channels
        noise: Tensor = self._pipeline.prepare_latents(
            1, channels, height, width, frames, torch.float32, self._device, generator, None
        )
        return noise


def denoise(velocity: Velocity, solver: Solver, latents: Tensor, watch: Watch) -> Tensor:
    """Follow the solver from noise to latents; the marker moves with every step."""
    import torch

    steps, step_ended = len(solver.timesteps), gpu.pace(str(latents.device))
    with torch.no_grad():
        for done, time in enumerate(solver.timesteps, start=1):
            latents = solver.step(velocity(latents, time), time, latents, return_dict=False)[0]
            step_ended()
            watch.step(done, steps)
    return latents


def one_by_one(
    transformer: Any,
    wanted: Tensor,
    unwanted: Tensor | None,
    guidance: float,
    *,
    together: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Velocity:
    """Each text in a call of its own, as the pipeline does it: least memory, any shape. Both calls of a step are made
    in `together`."""

    def ask(latents: Tensor, time: Tensor, text: Tensor) -> Tensor:
        velocity: Tensor = transformer(latents.to(transformer.dtype), time.expand(1), text, return_dict=False)[0]
        return velocity

    def velocity(latents: Tensor, time: Tensor) -> Tensor:
        if unwanted is None:
            return ask(latents, time, wanted)
        with together():
            towards, away = ask(latents, time, wanted), ask(latents, time, unwanted)
        return away + guidance * (towards - away)

    return velocity
