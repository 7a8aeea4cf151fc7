"""Work that the host tells the card once and the card then repeats by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def captured(function: Callable[[], T]) -> tuple[Any, T]:
    """The CUDA graph of a function and what each replay writes anew. It runs before: what compiles, compiles then, and
    libraries set up what cannot be set up while the card records.

    All graphs of a process share one piece of memory, as large as the largest needs: they run one after the other, and
    what they return stays theirs for as long as it is held. Other threads may ask the card for something meanwhile.
    """
    import torch

    aside, pool = _aside()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        function()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.empty_cache()  # what it took, the recording takes again
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
        result = function()
    return graph, result


@cache
def _aside() -> tuple[Any, Any]:
    """One stream for all, since libraries keep some memory for each, and the memory that graphs share."""
    import torch

    new_stream: Any = torch.cuda.Stream
    return new_stream(), torch.cuda.graph_pool_handle()
