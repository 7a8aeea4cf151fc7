"""Weight files become tensors on the device.

On a card, several threads read blocks into pinned memory, and each block is copied while the next ones are read: with
the files in the page cache, the copies are what takes the time. Elsewhere the files are mapped.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from workers.card import gpu, weights
from workers.errors import Misconfigured
from workers.logs import log

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Tensors = dict[str, "torch.Tensor"]
Moved = Callable[[int, int], None]
"""Told how many bytes of how many are done; what it raises ends the reading."""

BLOCK = 16 << 20
READERS = 8
LANES = 2 * READERS
"""Pinned blocks, 256 MiB of host memory: each reader fills one while another of them is copied."""

TELL_EVERY = 5.0
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file: `size` bytes from `offset` on."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    size: int


def load(files: Iterable[Path], device: str, dtype: Callable[[str], torch.dtype], moved: Moved) -> Tensors:
    """Every tensor of safetensors files by its name; those of real numbers in the dtype that is given for it.

    Raises `Misconfigured` for a file that is not whole.
    """
    pace = _Pace(moved)
    paths = list(files)
    if gpu.on_card(device):
        tensors = stream(paths, device, dtype, pace.moved)
    else:
        weights.read_ahead(paths, pace.moved)
        tensors = _mapped(paths, dtype)
    pace.over()
    return tensors


def read_while_importing(names: Iterable[str], read: Callable[[], T]) -> T:
    """What `read` gives; meanwhile another thread imports what is named ("library.Class"). Both take seconds, and
    reading leaves the interpreter to others."""
    with ThreadPoolExecutor(1, thread_name_prefix="import") as pool:
        imported = pool.submit(_import, list(names))
        result = read()
        imported.result()
    return result


def stream(files: Sequence[Path], device: str, dtype: Callable[[str], torch.dtype], moved: Moved) -> Tensors:
    """As `load` on a card, on any device. Takes no more of it than the tensors, and a block where the dtype changes:
    each tensor has memory of its own, which is free again when the tensor is replaced."""
    import torch

    stored = {name: place for path in files for name, place in stored_in(path).items()}
    tensors = {
        name: torch.empty(
            place.shape, dtype=dtype(name) if place.dtype.is_floating_point else place.dtype, device=device
        )
        for name, place in stored.items()
    }
    total = sum(path.stat().st_size for path in files)
    done = total - sum(place.size for place in stored.values())
    with ExitStack() as opened, _Belt(device) as belt, ThreadPoolExecutor(READERS, "read") as pool:
        descriptors = {path: opened.enter_context(path.open("rb", buffering=0)).fileno() for path in files}
        parts = [p for name, place in stored.items() for p in _parts(place, descriptors[place.path], tensors[name])]
        try:
            for size in pool.map(belt.move, parts):
                done += size
                moved(done, total)
        finally:
            pool.shutdown(cancel_futures=True)
    return tensors


def stored_in(path: Path) -> dict[str, Stored]:
    """What a safetensors file holds, by its header: eight bytes of length, then names, dtypes, shapes and places."""
    weights.check_safetensors(path, {})
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        found[name] = Stored(path, _dtype(path, entry["dtype"]), tuple(entry["shape"]), 8 + length + begin, end - begin)
    return found


def _import(names: Iterable[str]) -> None:
    weights.quiet_libraries()
    for name in names:
        library, _, part = name.partition(".")
        getattr(importlib.import_module(library), part)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some bytes of a tensor, at most a block, and the elements that they become."""

    path: Path
    descriptor: int
    offset: int
    size: int
    dtype: torch.dtype
    target: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Lane:
    """Host memory for a block, and the event after which it may be filled again; None where copying waits anyway."""

    memory: torch.Tensor
    copied: Any


class _Belt:
    """Blocks of host memory that are filled by many threads and copied by one stream of the card, in a ring."""

    def __init__(self, device: str) -> None:
        import torch

        cuda: Any = torch.cuda
        self._device, self._stream = device, None
        card = gpu.on_card(device)
        if card:
            self._stream = cuda.Stream(device)
            self._stream.wait_stream(cuda.current_stream(device))  # the targets' memory may still be in use
        self._lanes: SimpleQueue[_Lane] = SimpleQueue()
        for _ in range(LANES):
            memory = torch.empty(BLOCK, dtype=torch.uint8, pin_memory=card)
            self._lanes.put(_Lane(memory, cuda.Event(blocking=True) if card else None))

    def __enter__(self) -> _Belt:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.synchronize()

    def move(self, part: _Part) -> int:
        """Read a part and send it on its way; returns its bytes. Raises `Misconfigured`."""
        lane = self._lanes.get()
        try:
            if lane.copied is not None:
                lane.copied.synchronize()
            _read(part, memoryview(lane.memory.numpy().data)[: part.size])
            self._copy(part, lane)
        finally:
            self._lanes.put(lane)
        return part.size

    def _copy(self, part: _Part, lane: _Lane) -> None:
        import torch

        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            block = lane.memory[: part.size].view(part.dtype)
            if part.dtype != part.target.dtype:
                block = block.to(self._device, non_blocking=True)  # so that the card converts, not the host
            part.target.copy_(block, non_blocking=True)
            if lane.copied is not None:
                lane.copied.record()


class _Pace:
    """Bytes so far and how fast they came: told on as they are, and to the log every few seconds and at the end."""

    def __init__(self, moved: Moved) -> None:
        self._moved = moved
        self._began = self._told = time.monotonic()
        self._done = self._total = 0

    def moved(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._moved(done, total)
        if time.monotonic() - self._told >= TELL_EVERY:
            self._told = time.monotonic()
            log.info("reading weights", total_gb=round(total / 1e9, 2), **self._facts())

    def over(self) -> None:
        log.info("weights read", **self._facts())

    def _facts(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self._began, 1e-6)
        gb = self._done / 1e9
        return {"gb": round(gb, 2), "seconds": round(seconds, 2), "gb_per_s": round(gb / seconds, 2)}


def _mapped(paths: Iterable[Path], dtype: Callable[[str], torch.dtype]) -> Tensors:
    from safetensors.torch import load_file

    tensors = {name: tensor for path in paths for name, tensor in load_file(path).items()}
    return {name: t.to(dtype(name)) if t.is_floating_point() else t for name, t in tensors.items()}


def _parts(place: Stored, descriptor: int, tensor: torch.Tensor) -> Iterator[_Part]:
    flat, width = tensor.view(-1), place.dtype.itemsize
    for start in range(0, place.size, BLOCK):
        size = min(BLOCK, place.size - start)
        target = flat[start // width : (start + size) // width]
        yield _Part(place.path, descriptor, place.offset + start, size, place.dtype, target)


def _read(part: _Part, memory: memoryview) -> None:
    offset = part.offset
    while memory:
        try:
            got = os.preadv(part.descriptor, [memory], offset)
        except OSError as error:
            raise Misconfigured([f"{part.path} cannot be read ({error.strerror}). Copy it again."]) from None
        if not got:
            raise Misconfigured([f"{part.path} became shorter while it was read. Copy it again."])
        memory, offset = memory[got:], offset + got


def _dtype(path: Path, code: str) -> torch.dtype:
    import torch

    if code not in DTYPES:
        raise Misconfigured([f"{path} holds numbers of the kind {code}, which are not known here. Convert the file."])
    dtype: torch.dtype = getattr(torch, DTYPES[code])
    return dtype
