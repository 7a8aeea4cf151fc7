"""The card as its driver sees it: all processes together, without a context of our own on it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CardNow:
    """Bytes, percent, degrees and watts of one card."""

    name: str
    used: int
    total: int
    utilization: int
    temperature: int
    watts: float


class Card:
    """The first card that workers see; `read` gives None where there is none, or no driver that tells."""

    def __init__(self) -> None:
        self._handle: Any = None
        with suppress(Exception):  # no library, no driver, no such card: all of them mean that nothing can be read
            self._handle = _open()

    def read(self) -> CardNow | None:
        if self._handle is None:
            return None
        with suppress(Exception):  # a card that fell off the bus is told by the worker that used it
            return _read(self._handle)
        return None


def _open() -> Any:
    import pynvml

    pynvml.nvmlInit()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
    return pynvml.nvmlDeviceGetHandleByIndex(int(first)) if first.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(first)


def _read(handle: Any) -> CardNow:
    import pynvml

    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return CardNow(
        name=str(pynvml.nvmlDeviceGetName(handle)),
        used=int(memory.used),
        total=int(memory.total),
        utilization=int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        temperature=int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        watts=pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    )
