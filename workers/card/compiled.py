"""Compiling for the card, with what was compiled kept on the volume.

The library keys what it keeps by card, driver, its own version, source and shapes, so one folder serves them all.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.logs import describe, log

TUNED: dict[str, Any] = {"coordinate_descent_tuning": True}
"""Kernels try their neighbours' settings while they are compiled, which takes seconds more, once."""

SHAPES = 64
"""How many shapes one function may be compiled for; torch gives up at eight."""

Function = Callable[..., Any]


def keep_in(folder: Path | None) -> None:
    """Where compiled code is found again by the next start; None, or a folder that cannot be written: nowhere.

    Call it before anything is compiled. One compiler in this process, no pool of processes beside it: they would
    outlive the few seconds for which they are needed. No kernels in bundles either: a bundle is written before its
    kernels are tuned, so that some versions of torch tune what they find in one again at every start. And no sizes
    that are tried beside the tuned ones at every start, since what wins by chance is tuned again.
    """
    import torch._dynamo.config
    import torch._inductor.config

    torch._inductor.config.compile_threads = 1
    torch._inductor.config.bundle_triton_into_fx_graph_cache = False
    torch._inductor.config.dynamic_scale_rblock = False
    torch._dynamo.config.recompile_limit = SHAPES
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("compiled code is not kept", reason=error.strerror)
        return
    if os.access(folder, os.W_OK):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def compiled(function: Function) -> Function:
    """For fixed shapes, in one piece."""
    import torch

    return torch.compile(function, fullgraph=True, dynamic=False, options=TUNED)


@contextmanager
def compiling() -> Iterator[None]:
    """Inside, new shapes are compiled. Afterwards what was not compiled runs as it is written: no job ever waits for
    a compiler. Where nothing can be compiled, everything runs as it is written."""
    import torch

    works = possible()
    torch.compiler.set_stance("default" if works else "force_eager")
    try:
        yield
    finally:
        torch.compiler.set_stance("eager_on_recompile" if works else "force_eager")


@functools.cache
def possible() -> bool:
    """Whether there is all that compiling for this card takes: a C compiler, headers, triton."""
    import torch

    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device="cuda"))
    except Exception as error:
        log.warning("nothing can be compiled", **describe(error))
        return False
    return True
