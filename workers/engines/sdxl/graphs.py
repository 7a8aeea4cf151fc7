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

    from workers.engines.sdxl.blocks import Keys

MOST = 6
"""Rows of the largest batch that is recorded, three pictures with guidance. Six are replayed as twice three: that takes
half of the memory, which a graph holds for good, and 3 % less time."""
TEXTS, TOKENS = 2, 4 * 77
"""Of a batch at most, for which there is room. Longer texts are launched."""


class Graphed:
    """In the place of a denoiser. Sizes that come while it is `recording` become graphs, and so does any length of text
    that comes with them, then or later; others are launched as ever."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser, self._texts = denoiser, Texts(denoiser)
        self._on = False
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
        self._texts.forget()

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        added_cond_kwargs: Mapping[str, torch.Tensor],
        **_: Any,
    ) -> tuple[torch.Tensor]:
        text, added = encoder_hidden_states, added_cond_kwargs
        if step := self._step(sample, timestep, text, added):
            return (step(sample, timestep, text, added),)
        half = len(sample) // 2
        less = {name: tensor[:half] for name, tensor in added.items()}
        if len(sample) % 4 == 0 and (step := self._step(sample[:half], timestep, text[:half], less)):
            return (parted(step, sample, timestep, text, added),)
        return self._denoiser.forward(sample, timestep, text, added)

    def _step(
        self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, added: Mapping[str, torch.Tensor]
    ) -> Step | None:
        sizes = sample.shape, text.shape
        if sizes not in self._steps and self._may_be_recorded(sample, text):
            self._steps[sizes] = Step(self._denoiser, self._texts, sample, timestep, text, added)
        return self._steps.get(sizes)

    def _may_be_recorded(self, sample: torch.Tensor, text: torch.Tensor) -> bool:
        known = any(sample.shape == size for size, _ in self._steps)
        return text.shape[1] <= TOKENS and (known or (self._on and len(sample) <= MOST))


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


class Texts:
    """Keys and values of a job's texts, for batches of every size. Texts of all lengths lie in the same memory, since
    there is one job at a time."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self._memory: list[torch.Tensor] = []
        self._last: torch.Tensor | None = None

    def places(self, text: torch.Tensor) -> list[list[Keys]]:
        """Where those of a text of this length are, once it is `read`."""
        read = self._denoiser.read(Denoiser.different(text))
        self._memory = self._memory or [_room(tensor) for tensor in _flat(read)]
        memory = iter(self._memory)
        return [[(_placed(key, next(memory)), _placed(value, next(memory))) for key, value in each] for each in read]

    def read(self, text: torch.Tensor, places: list[list[Keys]]) -> None:
        """Once for all steps of a job, which come with the same tensor."""
        import torch

        if text is not self._last:
            torch._foreach_copy_(_flat(places), _flat(self._denoiser.read(Denoiser.different(text))))
            self._last = text

    def forget(self) -> None:
        self._last = None


def _flat(keys: list[list[Keys]]) -> list[torch.Tensor]:
    return [tensor for transformer in keys for block in transformer for tensor in block]


def _room(tensor: torch.Tensor) -> torch.Tensor:
    """For the most texts and tokens; `tensor` is (texts, heads, tokens, width of a head)."""
    return tensor.new_empty(TEXTS * TOKENS * tensor.shape[1] * tensor.shape[3])


def _placed(tensor: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    texts, heads, tokens, width = tensor.shape
    return memory[: tensor.numel()].view(texts, tokens, heads, width).transpose(1, 2)


class Step:
    """One size of batch with one length of text, over tensors that stay where they are."""

    def __init__(
        self,
        denoiser: Denoiser,
        texts: Texts,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        added: Mapping[str, torch.Tensor],
    ) -> None:
        self._texts, self._keys = texts, texts.places(text)
        self._sample, self._timestep = sample.clone(), timestep.clone()
        self._added = {name: tensor.clone() for name, tensor in added.items()}
        self._graph, self._prediction = captured(
            lambda: denoiser.predict(self._sample, self._timestep, self._added, self._keys)
        )

    def __call__(
        self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, added: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        self._texts.read(text, self._keys)
        for name, tensor in added.items():
            self._added[name].copy_(tensor)
        self._sample.copy_(sample)
        self._timestep.copy_(timestep)
        self._graph.replay()
        return self._prediction.clone()
