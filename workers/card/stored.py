"""What a safetensors file holds, and its bytes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from workers.card import weights
from workers.errors import Misconfigured

if TYPE_CHECKING:
    import torch

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


def stored_in(path: Path) -> dict[str, Stored]:
    """Tensors by name, without gaps between them: eight bytes of length, then names, dtypes, shapes and places.

    Raises `Misconfigured` for a file that is not whole.
    """
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


def read_into(memory: memoryview, file: FileIO, offset: int) -> None:
    """Fill `memory` from `offset` on. Raises `Misconfigured`."""
    while memory:
        try:
            got = os.preadv(file.fileno(), [memory], offset)
        except OSError as error:
            raise Misconfigured([f"{file.name} cannot be read ({error.strerror}). Copy it again."]) from None
        if not got:
            raise Misconfigured([f"{file.name} became shorter while it was read. Copy it again."])
        memory, offset = memory[got:], offset + got


def _dtype(path: Path, code: str) -> torch.dtype:
    import torch

    if code not in DTYPES:
        raise Misconfigured([f"{path} holds numbers of the kind {code}, which are not known here. Convert the file."])
    dtype: torch.dtype = getattr(torch, DTYPES[code])
    return dtype
