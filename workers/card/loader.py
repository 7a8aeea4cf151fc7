"""Weight files become tensors on the device.

Several threads read blocks into host memory, pinned for a card, and each block is copied while the next ones are read:
with the files in the page cache, the copies are what takes the time.

Another thread imports libraries meanwhile. Whoever leaves the interpreter, as each read and each operation of torch
does, gets it back from that thread only after a while. So a block holds as many tensors as fit, takes a few operations
for all of them, and what can be made before is made before.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from io import FileIO
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from workers.card import gpu, weights
from workers.card.stored import Stored, read_into, stored_in
from workers.logs import log

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]
Moved = Callable[[int, int], None]
"""Told how many bytes of how many are done; what it raises ends the reading."""

BLOCK = 16 << 20
READERS = 8
LANES = 2 * READERS
"""Pinned blocks, 256 MiB of host memory: each reader fills one while another of them is copied."""

TELL_EVERY = 5.0
WAIT = 0.0002
"""Seconds that a reader waits for the interpreter; Python lets threads wait for 0.005."""


def load(
    files: Iterable[Path],
    device: str,
    dtype: Callable[[str], torch.dtype],
    moved: Moved,
    importing: Sequence[str] = (),
) -> Tensors:
    """Every tensor of safetensors files by its name; those of real numbers in the dtype that is given for it. What is
    named in `importing` ("library.Class") is imported when they are there.

    Takes no more of the device than the tensors, and a few blocks while it lasts: each tensor has memory of its own,
    which is free again when the tensor is replaced. Raises `Misconfigured` for a file that is not whole.
    """
    import torch

    paths, tell = list(files), _Pace(moved).moved
    stored = {name: place for path in paths for name, place in stored_in(path).items()}
    tensors = {
        name: torch.empty(
            place.shape, dtype=dtype(name) if place.dtype.is_floating_point else place.dtype, device=device
        )
        for name, place in stored.items()
    }
    blocks = list(_blocks(stored, tensors))
    total = sum(path.stat().st_size for path in paths)
    with _imported(importing):
        _move(blocks, device, lambda left: tell(total - left, total))
    return tensors


@contextmanager
def _imported(names: Sequence[str]) -> Iterator[None]:
    """Meanwhile another thread imports these. Afterwards they are there."""
    if not names:
        yield
        return
    usual = sys.getswitchinterval()
    with ThreadPoolExecutor(1, thread_name_prefix="import") as pool:
        imported = pool.submit(_import, names)
        sys.setswitchinterval(WAIT)
        try:
            yield
        finally:
            sys.setswitchinterval(usual)
        imported.result()


def _import(names: Iterable[str]) -> None:
    weights.quiet_libraries()
    for name in names:
        library, _, part = name.partition(".")
        getattr(importlib.import_module(library), part)


@dataclass(frozen=True, slots=True)
class _Block:
    """Neighbours in a file, of one dtype, and the elements of tensors that they become."""

    path: Path
    offset: int
    dtype: torch.dtype
    targets: list[torch.Tensor]
    counts: list[int]

    @property
    def size(self) -> int:
        return sum(self.counts) * self.dtype.itemsize


def _blocks(stored: dict[str, Stored], tensors: Tensors) -> Iterator[_Block]:
    places = sorted(stored.items(), key=lambda item: (item[1].path, item[1].offset))
    for (path, dtype), group in groupby(places, key=lambda item: (item[1].path, item[1].dtype)):
        run = list(group)
        first = run[0][1].offset
        pieces = [p for name, place in run for p in _pieces(place, place.offset - first, tensors[name])]
        for number, held in groupby(pieces, key=lambda piece: piece[0]):
            targets = [target for _, target in held]
            yield _Block(path, first + number * BLOCK, dtype, targets, [target.numel() for target in targets])


def _pieces(place: Stored, begin: int, tensor: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """A tensor cut where blocks end, each piece with its block's number. It begins at byte `begin` of the blocks."""
    flat, width, at, end = tensor.view(-1), place.dtype.itemsize, begin, begin + place.size
    while at < end:
        number = at // BLOCK
        until = min(end, (number + 1) * BLOCK)
        yield number, flat[(at - begin) // width : (until - begin) // width]
        at = until


def _move(blocks: Sequence[_Block], device: str, left: Callable[[int], None]) -> None:
    """Fill the blocks' targets; `left` is told how many bytes are not read yet."""
    waiting = sum(block.size for block in blocks)
    with ExitStack() as opened, _Belt(device) as belt, ThreadPoolExecutor(READERS, "read") as pool:
        files = {path: opened.enter_context(path.open("rb", buffering=0)) for path in {b.path for b in blocks}}
        try:
            for size in pool.map(lambda block: belt.move(block, files[block.path]), blocks):
                waiting -= size
                left(waiting)
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Lane:
    """Host memory for a block, and the event after which it may be filled again; None where copying waits anyway."""

    memory: torch.Tensor
    bytes: memoryview
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
            self._lanes.put(_Lane(memory, memoryview(memory.numpy().data), cuda.Event(blocking=True) if card else None))

    def __enter__(self) -> _Belt:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.synchronize()

    def move(self, block: _Block, file: FileIO) -> int:
        """Read a block and send it on its way; returns its bytes. Raises `Misconfigured`."""
        lane = self._lanes.get()
        try:
            if lane.copied is not None:
                lane.copied.synchronize()
            read_into(lane.bytes[: block.size], file, block.offset)
            self._copy(block, lane)
        finally:
            self._lanes.put(lane)
        return block.size

    def _copy(self, block: _Block, lane: _Lane) -> None:
        """To the device as it is, where it becomes tensors of other dtypes."""
        import torch

        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            there = lane.memory[: block.size].to(self._device, non_blocking=True).view(block.dtype)
            torch._foreach_copy_(block.targets, there.split_with_sizes(block.counts))
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
        if done == total:
            log.info("weights read", **self._facts())

    def _facts(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self._began, 1e-6)
        gb = self._done / 1e9
        return {"gb": round(gb, 2), "seconds": round(seconds, 2), "gb_per_s": round(gb / seconds, 2)}
