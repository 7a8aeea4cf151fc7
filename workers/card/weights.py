"""Weight files on the volume: whether they are whole, in the page cache, known by hash and readable by all."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from workers.errors import Interrupted, Misconfigured

BLOCK = 16 << 20
READERS = 4
BLOCKS_PER_WAVE = 16


def quiet_libraries() -> None:
    """Keep diffusers and transformers offline and silent, and their errors in our log's form; call it before they
    are first imported.

    At their default verbosity they print the part of a prompt that they cut. The package invisible-watermark is here
    for its weights only; diffusers would import it, and it lacks what it needs for that. What else they would import
    and nothing here uses, takes a quarter of all that is imported: adapters of peft, and of scipy what solvers and
    losses take that are never chosen.
    """
    os.environ.update(
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        TOKENIZERS_PARALLELISM="false",
    )
    import diffusers.utils.import_utils
    import diffusers.utils.logging
    import transformers.utils.logging

    found = diffusers.utils.import_utils
    found._invisible_watermark_available = found._peft_available = found._scipy_available = False
    transformers.utils.is_scipy_available = lambda: False

    _list_models_once()
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
        library.disable_default_handler()
        library.enable_propagation()


@functools.cache
def _list_models_once() -> None:
    """To list what its models define, transformers reads their 1,600 files, and again when the first is imported: what
    it remembers is under the folder's name, what it asks for then under its `__init__.py`."""
    import transformers
    import transformers.utils.import_utils as library

    listed, folder = library.create_import_structure_from_path, Path(transformers.__file__).parent / "models"
    library.create_import_structure_from_path = lambda path: listed(
        folder if str(path) == str(folder / "__init__.py") else path
    )


def check_safetensors(path: Path, groups: Mapping[str, str]) -> None:
    """Raise `Misconfigured` unless `path` is a whole safetensors file that has every group of keys.

    `groups` maps a prefix of keys to what it holds. Reads the header only.
    """
    if not path.is_file():
        raise Misconfigured([f"{path} is not there. Copy the checkpoint to it, or set MODEL_ROOT to where it lies."])
    keys = _keys(path)
    missing = [f"{what} ({prefix}*)" for prefix, what in groups.items() if not any(k.startswith(prefix) for k in keys)]
    if missing:
        raise Misconfigured(
            [f"{path} has no {missing_part}. Replace it by a complete checkpoint." for missing_part in missing]
        )


def read_ahead(paths: Iterable[Path], moved: Callable[[int, int], None]) -> None:
    """Bring files into the page cache, so that mapping them afterwards does not crawl page by page over a network.

    `moved(done, total)` is told bytes after every wave of blocks; what it raises ends the reading.
    """
    files = [(path, path.stat().st_size) for path in paths]
    blocks = [(path, offset) for path, size in files for offset in range(0, size, BLOCK)]
    total, done = sum(size for _, size in files), 0
    with ThreadPoolExecutor(READERS, thread_name_prefix="read-ahead") as pool:
        for start in range(0, len(blocks), BLOCKS_PER_WAVE):
            done += sum(pool.map(_read, blocks[start : start + BLOCKS_PER_WAVE]))
            moved(done, total)


@contextmanager
def reading_ahead(paths: Iterable[Path]) -> Iterator[None]:
    """Meanwhile another thread reads ahead, as far as it gets. What it cannot read is said by whoever needs it."""
    ended = threading.Event()

    def go_on(done: int, total: int) -> None:
        if ended.is_set():
            raise Interrupted

    def read() -> None:
        with suppress(Interrupted, OSError):
            read_ahead(paths, go_on)

    threading.Thread(target=read, name="read-next", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def file_hash(path: Path) -> str:
    """SHA-256 in hex, remembered beside the file as `sha256sum` writes it: seven gigabytes take seconds to hash."""
    note = path.with_name(path.name + ".sha256")
    known = _noted(note, newer_than=path)
    if known:
        return known
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(OSError):  # a volume mounted read-only costs the hash anew at every start, nothing else
        note.write_text(f"{digest}  {path.name}\n")
    return digest


def make_readable(folder: Path) -> None:
    """Let every user read what was saved: the libraries write weights with mode 0600."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _keys(path: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise Misconfigured(
            [f"{path} is not a whole safetensors file ({error}). Copy it again and compare its size."]
        ) from None


def _read(block: tuple[Path, int]) -> int:
    """The bytes of one block, which is then in the page cache."""
    path, offset = block
    with path.open("rb", buffering=0) as file:
        size = min(BLOCK, os.fstat(file.fileno()).st_size - offset)
        if not _cached(file.fileno(), offset):
            os.pread(file.fileno(), size, offset)
    return size


def _cached(fd: int, offset: int) -> bool:
    """Whether the first page of a block is in the page cache. File systems that cannot tell count as "no"."""
    try:
        return os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except OSError:
        return False


def _noted(note: Path, *, newer_than: Path) -> str | None:
    try:
        if note.stat().st_mtime < newer_than.stat().st_mtime:
            return None
        digest = note.read_text().split(" ")[0]
    except (OSError, UnicodeDecodeError):
        return None
    return digest if len(digest) == 64 else None
