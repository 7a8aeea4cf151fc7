"""Denoising steps as CUDA graphs.

A step is two thousand small orders. With one picture the card is faster than the processor can give them; with six it
is slower, until other threads, which deliver what was made before, take the processor away. A graph gives them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workers.card.graphs import captured
from workers.engines.sdxl.denoiser import Denoiser

if TYPE_CHECKING:
    import torch

MOST = 6
"""Rows of the largest batch that is recorded, three pictures with guidance. Six are replayed as twice three: that takes
half of the memory, which a graph holds for good, and 3 % less time."""


class Graphed:
    """In the place of a denoiser. Sizes and lengths of text that come while it is `recording` become graphs; others are
    launched as ever, then and later."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self._on = False
        self._texts: dict[torch.Size, Text] = {}
        self._steps: dict[tuple[torch.Size, ...], Step] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def refresh(self) -> None:
        """What graphs read stays where it is, but for the keys of the last text."""
        self._denoiser.refresh()
        for text in self._texts.values():
            text.forget()

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        added_cond_kwargs: Mapping[str, torch.Tensor],
        **_: Any,
    ) -> tuple[torch.Tensor]:
        import torch

        text, added = encoder_hidden_states, added_cond_kwargs
        sizes = (sample.shape, text.shape)
        if self._on and len(sample) <= MOST and sizes not in self._steps:
            self._steps[sizes] = self._recorded(sample, timestep, text, added)
        if sizes in self._steps:
            return (self._steps[sizes](sample, timestep, text, added),)
        half = self._steps.get(tuple(torch.Size((size[0] // 2, *size[1:])) for size in sizes))
        if half is not None and len(sample) % 4 == 0:
            return (parted(half, sample, timestep, text, added),)
        return self._denoiser.forward(sample, timestep, text, added)

    def _recorded(
        self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, added: Mapping[str, torch.Tensor]
    ) -> Step:
        length = text.shape[1:]
        if length not in self._texts:
            self._texts[length] = Text(self._denoiser, text)
        return Step(self._denoiser, self._texts[length], sample, timestep, added)


def parted(
    step: Step, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, added: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """A batch as two of half as many pictures, each of them with both texts."""
    import torch

    parts = []
    for part in (0, 1):
        chosen = {name: torch.cat(tensor.chunk(4)[part::2]) for name, tensor in added.items()}
        parts.append(step(torch.cat(sample.chunk(4)[part::2]), timestep, text, chosen).chunk(2))
    return torch.cat([half for halves in zip(*parts, strict=True) for half in halves])


class Text:
    """Keys and values of one length of text, for batches of every size."""

    def __init__(self, denoiser: Denoiser, text: torch.Tensor) -> None:
        self._texts = Denoiser.different(text).clone()
        self._graph, self.keys = captured(lambda: denoiser.read(self._texts))
        self._last: torch.Tensor | None = None

    def read(self, text: torch.Tensor) -> None:
        """Once for all steps of a job, which come with the same tensor."""
        if text is not self._last:
            self._texts.copy_(Denoiser.different(text))
            self._graph.replay()
            self._last = text

    def forget(self) -> None:
        self._last = None


class Step:
    """One size of batch, over tensors that stay where they are."""

    def __init__(
        self,
        denoiser: Denoiser,
        text: Text,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        added: Mapping[str, torch.Tensor],
    ) -> None:
        self._text, self._sample, self._timestep = text, sample.clone(), timestep.clone()
        self._added = {name: tensor.clone() for name, tensor in added.items()}
        self._graph, self._prediction = captured(
            lambda: denoiser.predict(self._sample, self._timestep, self._added, text.keys)
        )

    def __call__(
        self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, added: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        self._text.read(text)
        for name, tensor in added.items():
            self._added[name].copy_(tensor)
        self._sample.copy_(sample)
        self._timestep.copy_(timestep)
        self._graph.replay()
        return self._prediction.clone()
