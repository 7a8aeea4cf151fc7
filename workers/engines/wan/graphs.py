"""The denoiser for one frame and the text encoder as CUDA graphs: so few tokens leave the card idle between small
kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from workers.card.graphs import captured
from workers.engines.wan.fused import read

if TYPE_CHECKING:
    from torch import Tensor

    from workers.engines.wan.denoise import Velocity

WINDOW = 512
"""Tokens that the text encoder was trained on."""


class Texts:
    """The two texts of a step as every block reads them, which is the same in all steps: 190 MB that stay where they
    are."""

    def __init__(self, transformer: Any) -> None:
        import torch

        self._transformer = transformer
        shape = (2, WINDOW, transformer.config.text_dim)
        with torch.no_grad():
            blank = self._read(torch.zeros(shape, dtype=transformer.dtype, device=transformer.device))
        self._kept = [tensor.contiguous() for tensor in blank]

    def fill(self, wanted: Tensor, unwanted: Tensor) -> None:
        """Embeddings (1, 512, width)."""
        import torch

        with torch.no_grad():
            torch._foreach_copy_(self._kept, self._read(torch.cat((wanted, unwanted))))

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Inside, this is what the blocks read."""
        readers = [block.attn2.processor for block in self._transformer.blocks]
        for reader, kept in zip(readers, zip(self._kept[::2], self._kept[1::2], strict=True), strict=True):
            reader.kept = kept
        try:
            yield
        finally:
            for reader in readers:
                reader.kept = None

    def _read(self, texts: Tensor) -> list[Tensor]:
        seen = self._transformer.condition_embedder.text_embedder(texts)
        return [tensor for block in self._transformer.blocks for tensor in read(block.attn2, seen)]


class Graph:
    """Both texts of a step at once, for latents of one shape. Its buffers hold what the last call left there."""

    def __init__(
        self,
        transformer: Any,
        texts: Texts,
        together: Callable[[], AbstractContextManager[None]],
        shape: Sequence[int],
    ) -> None:
        import torch

        device = transformer.device
        self._together, self._texts = together, texts
        self._latents = torch.zeros(tuple(shape), device=device)
        self._time = torch.zeros((), device=device)
        self._unread = torch.zeros(2, 1, transformer.config.text_dim, dtype=transformer.dtype, device=device)
        self._guidance = torch.ones((), device=device)
        with torch.no_grad(), texts.worn():
            self._graph, self._velocity = captured(lambda: self._step(transformer))

    def fits(self, text: Tensor) -> bool:
        """A text of several windows is longer than the graph's."""
        return text.shape[1] == WINDOW

    def velocity(self, wanted: Tensor, unwanted: Tensor, guidance: float) -> Velocity:
        self._texts.fill(wanted, unwanted)
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
            towards, away = transformer(latents, self._time.expand(2), self._unread, return_dict=False)[0].chunk(2)
        velocity: Tensor = away + self._guidance * (towards - away)
        return velocity


class Window:
    """A text of fewer than `length` tokens and its end mark; a graph where it is to be `recorded`."""

    def __init__(self, encoder: Any, tokenizer: Any, length: int, *, recorded: bool = False) -> None:
        import torch

        self.length = length
        self._encoder, self._end, self._pad = encoder, tokenizer.eos_token_id, tokenizer.pad_token_id
        self._ids = torch.full((1, length), self._end, device=encoder.device)
        self._seen = torch.ones((1, length), dtype=torch.long, device=encoder.device)
        self._graph: Any = None
        if recorded:
            with torch.no_grad():
                self._graph, self._embeds = captured(self._read)

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
