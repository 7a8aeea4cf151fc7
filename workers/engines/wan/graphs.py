"""The denoiser for one frame as a CUDA graph: so few tokens leave the card idle between small kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from workers.engines.wan.encode import WINDOW

if TYPE_CHECKING:
    from torch import Tensor

    from workers.engines.wan.denoise import Velocity


class Graph:
    """Both texts of a step at once, for latents of one shape. Its buffers hold what the last call left there."""

    def __init__(
        self, transformer: Any, together: Callable[[], AbstractContextManager[None]], shape: Sequence[int], pool: Any
    ) -> None:
        import torch

        self._together = together
        device, dtype = transformer.device, transformer.dtype
        self._latents = torch.zeros(tuple(shape), device=device)
        self._time = torch.zeros((), device=device)
        self._texts = torch.zeros(2, WINDOW, transformer.config.text_dim, dtype=dtype, device=device)
        self._guidance = torch.ones((), device=device)
        with torch.no_grad():
            self._graph = self._captured(transformer, pool)

    def fits(self, text: Tensor) -> bool:
        """A text of several windows is longer than the graph's."""
        return text.shape[1:] == self._texts.shape[1:]

    def velocity(self, wanted: Tensor, unwanted: Tensor, guidance: float) -> Velocity:
        import torch

        self._texts.copy_(torch.cat((wanted, unwanted)))
        self._guidance.fill_(guidance)

        def velocity(latents: Tensor, time: Tensor) -> Tensor:
            self._latents.copy_(latents)
            self._time.copy_(time)
            self._graph.replay()
            return self._velocity  # valid until the next replay

        return velocity

    def _captured(self, transformer: Any, pool: Any) -> Any:
        """One run before the capture: what compiles, compiles now, and libraries take their workspace."""
        import torch

        self._step(transformer)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            self._velocity = self._step(transformer)
        return graph

    def _step(self, transformer: Any) -> Tensor:
        latents = self._latents.to(transformer.dtype).expand(2, -1, -1, -1, -1)
        with self._together():
            towards, away = transformer(latents, self._time.expand(2), self._texts, return_dict=False)[0].chunk(2)
        velocity: Tensor = away + self._guidance * (towards - away)
        return velocity
