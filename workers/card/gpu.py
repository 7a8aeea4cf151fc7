"""The accelerator: which device to use, how much memory it has, and what its errors mean."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from workers.errors import EngineBroken, Misconfigured

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

GROW_IN_PLACE = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""For the environment of a process whose models take turns with tensors of unlike sizes: fixed blocks of one are of
no use to the other. An operator's own setting goes first."""

CUDA_BROKEN = 70
OUT_OF_MEMORY = 71
_POISONED = ("CUDA error", "cuDNN error", "CUBLAS_STATUS")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `total` and `free` are the whole card's, with other processes, contexts and graph pools counted in;
    `peak` is the highest mark of this process's tensors."""

    total: int
    free: int
    peak: int

    @property
    def used(self) -> int:
        return self.total - self.free


def pick_device(wanted: str = "") -> str:
    """`wanted`, or "cuda" where there is a card, else "cpu". Raises `Misconfigured` for a card that is not there."""
    if wanted == "cpu":
        return wanted
    import torch

    if torch.cuda.is_available():
        return wanted or "cuda"
    if wanted.startswith("cuda"):
        raise Misconfigured(
            [f"DEVICE is {wanted}, but no CUDA device answers. Check the driver (nvidia-smi) or set DEVICE=cpu."]
        )
    return wanted or "cpu"


def on_card(device: str) -> bool:
    return device.startswith("cuda")


def dtype_for(device: str, half: Literal["float16", "bfloat16"]) -> torch.dtype:
    """`half` on a card; float32 elsewhere, because processors are slow and incomplete in 16 bits."""
    import torch

    dtype: torch.dtype = getattr(torch, half) if on_card(device) else torch.float32
    return dtype


def has_eight_bits(device: str) -> bool:
    """Whether the card multiplies in 8 bits at twice the rate of 16: compute capability 8.9 and later."""
    if not on_card(device):
        return False
    import torch

    return torch.cuda.get_device_capability(device) >= (8, 9)


def memory(device: str) -> Memory | None:
    """None where there is no card to ask."""
    if not on_card(device):
        return None
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return Memory(total=total, free=free, peak=torch.cuda.max_memory_allocated(device))


def peak(device: str) -> int:
    """The most bytes of the card that tensors of this process held since this was last asked."""
    if not on_card(device):
        return 0
    import torch

    most = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return most


def held(device: str) -> int:
    """Bytes of the card that tensors of this process hold."""
    if not on_card(device):
        return 0
    import torch

    return torch.cuda.memory_allocated(device)


def card_name(device: str) -> str:
    if not on_card(device):
        return "CPU"
    import torch

    return torch.cuda.get_device_name(device)


def card_id(device: str) -> str:
    """The same for every process that computes on this card, whatever number it has there."""
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)


def synchronize(device: str) -> None:
    """Wait until the card has done what was asked of it. Raises `EngineBroken` where it could not."""
    import torch

    with guard():
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object]) -> float:
    """How long the card is busy with it."""
    import torch

    new_event: Any = torch.cuda.Event
    began, ended = (new_event(enable_timing=True) for _ in range(2))
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended)) / 1000


def pace(device: str) -> Callable[[], None]:
    """To be called after every step: waits until the card has done all but the last one, so that progress is true and
    a wish to stop is near, and yet the card never waits for the host."""
    if not on_card(device):
        return lambda: None
    import torch

    new_event: Any = torch.cuda.Event
    steps: list[torch.cuda.Event] = []

    def step_ended() -> None:
        steps.append(new_event(blocking=True))
        steps[-1].record()
        if len(steps) > 1:
            steps.pop(0).synchronize()

    return step_ended


def empty() -> None:
    """Give memory that no tensor uses back to the card, for the other process on it."""
    gc.collect()
    trim()


def trim() -> None:
    """Give back what no tensor uses, to a phase whose tensors would not fit there or to the other process."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def crowded(device: str, need: int) -> bool:
    """Whether the card has fewer bytes than that beside what this process holds already."""
    found = memory(device)
    return found is not None and found.total - held(device) < need


@contextmanager
def guard() -> Iterator[None]:
    """Turn torch's errors that only a new process heals into `EngineBroken`; all others pass unchanged."""
    try:
        yield
    except RuntimeError as error:
        broken = _broken(error)
        if broken is None:
            raise
        raise broken from None


def with_one_retry(run: Callable[[], T], smaller: Callable[[], T]) -> T:
    """The result of `run`, or of `smaller` where the card had no room for it. Out of room twice: `EngineBroken`.

    `smaller` starts outside the `except` block: inside it, the traceback would keep the tensors of `run` alive.
    """
    import torch

    with guard():
        try:
            return run()
        except torch.OutOfMemoryError:
            pass
        empty()
        return smaller()


def _broken(error: RuntimeError) -> EngineBroken | None:
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return EngineBroken(
            "The accelerator has no room for this work, also at a lower footprint.", exit_code=OUT_OF_MEMORY
        )
    first_line = str(error).partition("\n")[0]
    if isinstance(error, torch.AcceleratorError) or any(mark in first_line for mark in _POISONED):
        return EngineBroken(f"The accelerator failed and needs a new process: {first_line}", exit_code=CUDA_BROKEN)
    return None
