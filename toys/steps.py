"""One step of training: loss, gradients, AdamW. A card repeats what it did for a batch of the same shapes: recorded
once, a step of thousands of small kernels starts as one, and these networks are so small that starting is all they
cost."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.card import gpu

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Batch = Sequence["Tensor"]
Step = Callable[[Batch], "Tensor"]
"""Learns from a batch; the answer is the loss, which the next step may overwrite."""

CLIP = 1.0
REHEARSALS = 3
"""Steps before a recording, in which libraries choose their kernels and the optimizer makes its state."""


def quicken(device: str) -> None:
    """On a card: matrix products in TF32, and convolutions by whichever kernel was the fastest in a rehearsal."""
    import torch

    if gpu.on_card(device):
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True


def adam(parameters: Sequence[Tensor], rate: float) -> Any:
    """On a card its rate is a tensor, which a recording reads anew at each step."""
    import torch

    on_card = parameters[0].is_cuda
    known = torch.tensor(rate, device=parameters[0].device) if on_card else rate
    return torch.optim.AdamW(parameters, lr=known, betas=(0.9, 0.99), weight_decay=1e-3, fused=True, capturable=on_card)


def set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], float):
            group["lr"] = rate
        else:
            group["lr"].fill_(rate)


def stepper(loss: Callable[..., Tensor], optimizer: Any, parameters: Sequence[Tensor], *, recorded: bool) -> Step:
    """Steps from kernel to kernel, or recorded ones."""
    import torch

    def step(batch: Batch) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value: Any = loss(*batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        detached: Tensor = value.detach()
        return detached

    return _Recorded(step) if recorded else step


@dataclass(frozen=True, slots=True)
class _Record:
    """What to fill in, what to start, and where the loss is then."""

    batch: Batch
    graph: torch.cuda.CUDAGraph
    loss: Tensor

    def play(self, batch: Batch) -> Tensor:
        for kept, given in zip(self.batch, batch, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.loss


class _Recorded:
    """A recording for each set of shapes; where one fails, steps go on from kernel to kernel."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._records: dict[Any, _Record | None] = {}

    def __call__(self, batch: Batch) -> Tensor:
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in batch)
        if shapes not in self._records:
            self._records[shapes] = self._recorded(batch)
        record = self._records[shapes]
        return self._step(batch) if record is None else record.play(batch)

    def _recorded(self, batch: Batch) -> _Record | None:
        import torch

        card: Any = torch.cuda
        held, side = [tensor.clone() for tensor in batch], card.Stream()
        side.wait_stream(card.current_stream())
        with card.stream(side):
            for _ in range(REHEARSALS):
                self._step(held)
        card.current_stream().wait_stream(side)
        gc.collect()  # what is freed while a card records spoils the recording
        graph = card.CUDAGraph()
        try:
            with card.graph(graph):
                loss = self._step(held)
        except RuntimeError as error:
            card.set_stream(card.default_stream())
            print(f"not recorded, so slower: {error}", flush=True)
            return None
        return _Record(held, graph, loss)
