"""The denoiser for one frame and the text encoder as CUDA graphs: so few tokens leave the card idle between small
kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from workers.card.graphs import captured

if TYPE_CHECKING:
    from torch import Tensor

    from workers.engines.wan.denoise import Velocity

WINDOW = 512
"""Tokens that the text encoder was trained on."""


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
            self._graph, self._velocity = captured(lambda: self._step(transformer), pool)

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

    def _step(self, transformer: Any) -> Tensor:
        latents = self._latents.to(transformer.dtype).expand(2, -1, -1, -1, -1)
        with self._together():
            towards, away = transformer(latents, self._time.expand(2), self._texts, return_dict=False)[0].chunk(2)
        velocity: Tensor = away + self._guidance * (towards - away)
        return velocity


class Window:
    """A text of fewer than `length` tokens and its end mark; a graph where there is a `pool` of the card's memory."""

    def __init__(self, encoder: Any, tokenizer: Any, length: int, pool: Any = None) -> None:
        import torch

        self.length = length
        self._encoder, self._end, self._pad = encoder, tokenizer.eos_token_id, tokenizer.pad_token_id
        self._ids = torch.full((1, length), self._end, device=encoder.device)
        self._seen = torch.ones((1, length), dtype=torch.long, device=encoder.device)
        self._graph: Any = None
        if pool is not None:
            with torch.no_grad():
                self._graph, self._embeds = captured(self._read, pool)

    def __call__(self, ids: Sequence[int]) -> Tensor:
        """(1, 512, width), zeros after the end mark."""
        import torch

        row = [*ids, self._end] + [self._pad] * (self.length - len(ids) - 1)
        self._ids.copy_(torch.tensor([row]))
        self._seen.copy_(torch.arange(self.length)[None] <= len(ids))
        if self._graph is None:
            self._embeds = self._read()
        else:
            self._graph.replay()
        out = self._embeds.new_zeros(1, WINDOW, self._embeds.shape[-1])
        out[:, : self.length] = self._embeds
        return out

    def _read(self) -> Tensor:
        embeds: Tensor = self._encoder(self._ids, self._seen).last_hidden_state * self._seen[..., None]
        return embeds
