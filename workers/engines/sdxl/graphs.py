"""Denoising steps and the decoder as CUDA graphs.

A step is two thousand small orders. With one picture the card is faster than the processor can give them; with six it
is slower, until other threads, which deliver what was made before, take the processor away. A graph gives them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workers.card.graphs import captured
from workers.engines.sdxl.decoder import Decoder
from workers.engines.sdxl.denoiser import Denoiser

if TYPE_CHECKING:
    import torch


class Recorder:
    """Sizes that come while it is `on` become graphs; others are launched as ever, then and later."""

    def __init__(self) -> None:
        self.on = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        self.on = True
        try:
            yield
        finally:
            self.on = False


class GraphedDenoiser:
    """In the place of a denoiser, for the sizes and lengths of text that were recorded."""

    def __init__(self, denoiser: Denoiser, recorder: Recorder) -> None:
        self._denoiser, self._recorder = denoiser, recorder
        self._texts: dict[Any, Text] = {}
        self._steps: dict[Any, Step] = {}

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
        text, added = encoder_hidden_states, added_cond_kwargs
        key = (sample.shape, text.shape)
        if self._recorder.on and key not in self._steps:
            self._steps[key] = self._recorded(sample, timestep, text, added)
        if key in self._steps:
            return (self._steps[key](sample, timestep, text, added),)
        return self._denoiser.forward(sample, timestep, text, added)

    def _recorded(
        self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, added: Mapping[str, torch.Tensor]
    ) -> Step:
        length = text.shape[1:]
        if length not in self._texts:
            self._texts[length] = Text(self._denoiser, text)
        return Step(self._denoiser, self._texts[length], sample, timestep, added)


class Text:
    """Keys and values of one length of text, for batches of every size."""

    def __init__(self, denoiser: Denoiser, text: torch.Tensor) -> None:
        self._texts = denoiser.different(text).clone()
        self._different = denoiser.different
        self._graph, self.keys = captured(lambda: denoiser.read(self._texts))
        self._last: torch.Tensor | None = None

    def read(self, text: torch.Tensor) -> None:
        """Once for all steps of a job, which come with the same tensor."""
        if text is not self._last:
            self._texts.copy_(self._different(text))
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


class GraphedDecoder:
    """In the place of a decoder, for the sizes that were recorded."""

    def __init__(self, decoder: Decoder, recorder: Recorder) -> None:
        self._decoder, self._recorder = decoder, recorder
        self._graphs: dict[Any, tuple[torch.Tensor, Any, torch.Tensor]] = {}

    def forward(self, latent: torch.Tensor, latent_embeds: None = None) -> torch.Tensor:
        key = latent.shape
        if self._recorder.on and key not in self._graphs:
            kept = latent.clone()
            self._graphs[key] = (kept, *captured(lambda: self._decoder.forward(kept)))
        if key not in self._graphs:
            return self._decoder.forward(latent)
        kept, graph, image = self._graphs[key]
        kept.copy_(latent)
        graph.replay()
        return image.clone()
