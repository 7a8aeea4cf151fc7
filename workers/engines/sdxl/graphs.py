"""A denoising step of one picture as a CUDA graph.

With one picture the card is faster than the processor can tell it what to do. A graph tells it all at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workers.card.graphs import captured
from workers.engines.sdxl.denoiser import Denoiser

if TYPE_CHECKING:
    import torch

BATCH = 2
"""One picture with guidance; larger batches keep the card busy without a graph."""


class Graphed:
    """A denoiser whose steps of one picture are replayed, in the size and with the length of text that come first.

    That is warm-up's. Others are launched as ever: a graph keeps the memory of its step for itself.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self._step: Step | None = None

    def refresh(self) -> None:
        """What graphs read stays where it is."""
        self._denoiser.refresh()

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        added_cond_kwargs: Mapping[str, torch.Tensor],
        **_: Any,
    ) -> tuple[torch.Tensor]:
        text, added = encoder_hidden_states, added_cond_kwargs
        if self._step is None and len(sample) == BATCH:
            self._step = Step(self._denoiser, sample, timestep, text, added)
        if self._step is not None and self._step.fits(sample, text):
            return (self._step(sample, timestep, text, added),)
        return self._denoiser.forward(sample, timestep, text, added)


class Step:
    """Two graphs over tensors that stay where they are: one reads the text, one predicts."""

    def __init__(
        self,
        denoiser: Denoiser,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        added: Mapping[str, torch.Tensor],
    ) -> None:
        self._sample, self._timestep, self._text = sample.clone(), timestep.clone(), text.clone()
        self._added = {name: tensor.clone() for name, tensor in added.items()}
        self._read, self._keys = captured(lambda: denoiser.read(self._text))
        self._predict, self._prediction = captured(
            lambda: denoiser.predict(self._sample, self._timestep, self._added, self._keys)
        )
        self._last_text: torch.Tensor | None = None

    def fits(self, sample: torch.Tensor, text: torch.Tensor) -> bool:
        return sample.shape == self._sample.shape and text.shape == self._text.shape

    def __call__(
        self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, added: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        if text is not self._last_text:
            self._text.copy_(text)
            for name, tensor in added.items():
                self._added[name].copy_(tensor)
            self._read.replay()
            self._last_text = text
        self._sample.copy_(sample)
        self._timestep.copy_(timestep)
        self._predict.replay()
        return self._prediction.clone()
