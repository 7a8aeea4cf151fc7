"""What lies in host memory, pinned where there is a card: it reads and writes there without the host's help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workers.card import gpu

if TYPE_CHECKING:
    from torch import Tensor


def fetched(tensor: Tensor) -> Tensor:
    """A copy, once the card has made the tensor. torch lends its memory again when nobody holds it."""
    import torch

    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda).copy_(tensor)


def park(module: Any) -> None:
    """From now on its home is host memory, pinned where there is a card: see `visiting`."""
    import torch

    for tensor in (*module.parameters(), *module.buffers()):
        home = tensor.data.cpu()
        tensor.data = home.pin_memory() if torch.cuda.is_available() else home
    gpu.empty()


@contextmanager
def visiting(modules: Iterable[Any], device: Any) -> Iterator[None]:
    """Modules whose home is host memory, on the card for a while. Their tensors at home stay as they are."""
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    home = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(device)
        yield
    finally:
        for tensor, data in zip(tensors, home, strict=True):
            tensor.data = data
