"""Work that the host tells the card once and the card then repeats by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def captured(function: Callable[[], T], pool: Any = None) -> tuple[Any, T]:
    """The CUDA graph of a function and what each replay writes anew. It runs before: what compiles, compiles then, and
    libraries set up what cannot be set up while the card records. Graphs of one `pool` share memory."""
    import torch

    new_stream: Any = torch.cuda.Stream
    aside = new_stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        function()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.empty_cache()  # what it took, the recording takes again
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        result = function()
    return graph, result
