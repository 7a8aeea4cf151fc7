"""Gate G5: what was decided, line by line, so that no line can be changed or taken out unnoticed.

A chain is the lines of one writer. Each is JSON with its number, the hash of the line before, facts, and its own hash;
`seal` is an HMAC of that hash, which nobody makes without the key. A process that is killed while it writes leaves a
torn line: the next one says how long it was and what its hash is, and goes on. A process that freezes while it writes
keeps its chain: the others of its name then begin one of their own, so that nothing that was decided is lost.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.logs import log
from workers.safety.alone import alone

FILE_BYTES = 16 * 2**20
START = "0" * 64
KEY_FILE = "key"
DIGITS = 32
TORN, APART, RESUMED = "torn", "apart", "resumed"
PATIENCE = 10.0
"""Seconds to wait for another process of the same name, whose turn takes as long as one write to disk."""

_NAME = re.compile(r"[^A-Za-z0-9@._-]")
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """The deployment's audit key: pseudonyms of texts and users, and seals."""

    secret: bytes

    def mac(self, text: str) -> str:
        """The same text under the same key is the same; without the key it cannot be guessed."""
        return hmac.digest(self.secret, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()[:DIGITS]

    @property
    def name(self) -> str:
        return hashlib.sha256(b"audit key:" + self.secret).hexdigest()[:8]


def load_key(folder: Path, given: str | None) -> Key:
    """The key given, else the one beside the audit, which the first process makes. Raises `OSError`."""
    if given:
        return Key(given.encode())
    file = folder / KEY_FILE
    if not file.exists():
        _make_key(file)
    return Key(file.read_bytes())


def _make_key(file: Path) -> None:
    with alone(file.parent, KEY_FILE, PATIENCE):
        if not file.exists():
            made = file.with_name(f".{KEY_FILE}.new")
            made.touch(0o600)
            made.write_text(os.urandom(32).hex())
            made.rename(file)


class Chain:
    """One writer's lines below `folder`. Any thread may write; another process of the same name waits its turn, for
    `patience` seconds at most."""

    def __init__(
        self,
        folder: Path,
        name: str,
        key: Key,
        *,
        limit: int = FILE_BYTES,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = _NAME.sub("_", name)
        self._folder, self._key, self._limit, self._patience, self._clock = folder, key, limit, patience, clock
        self._lock, self._apart, self._failing = threading.Lock(), False, False
        self._end: tuple[Path, int, int, str] | None = None

    def mac(self, text: str) -> str:
        return self._key.mac(text)

    def write(self, event: str, **facts: Any) -> Record:
        """Append one line and force it to disk. Raises `OSError`: then nothing was decided."""
        with self._lock:
            try:
                record = self._write_in_time(event, facts)
            except OSError:
                self._failing = True
                raise
            self._failing = False
            return record

    def problem(self) -> str | None:
        """Why nothing can be written, if the last line could not be and another one cannot either."""
        try:
            if self._failing:
                self.write(RESUMED)
        except OSError as error:
            return f"the audit cannot be written: {error.strerror}"
        return None

    def _write_in_time(self, event: str, facts: Mapping[str, Any]) -> Record:
        try:
            return self._write(event, facts)
        except TimeoutError:
            log.error("audit lock held", chain=self.name, seconds=self._patience)
            if self._apart:
                raise
            self._part()
            return self._write(event, facts)

    def _part(self) -> None:
        """Go on in a chain of this process's own, which begins by saying so."""
        left, self.name = self.name, f"{self.name}-{os.getpid()}"
        self._apart, self._end = True, None
        self._write(APART, {"chain": left})

    def _write(self, event: str, facts: Mapping[str, Any]) -> Record:
        with alone(self._folder, self.name, self._patience):
            path, number, last = self._find_end()
            record = self._record(number + 1, last, event, facts)
            _append(path, _line(record))
            self._end = path, path.stat().st_size, record["n"], record["hash"]
            return record

    def _record(self, number: int, last: str, event: str, facts: Mapping[str, Any]) -> Record:
        record: Record = {"n": number, "prev": last, "at": round(self._clock(), 3), "event": event, **facts}
        record["hash"] = hash_of(record)
        return record | {"key": self._key.name, "seal": self._key.mac(record["hash"])}

    def _find_end(self) -> tuple[Path, int, str]:
        """The file to write to, and the number and hash of the last line."""
        files = files_of(self._folder, self.name)
        if not files:
            return self._folder / f"{self.name}.000001.jsonl", 0, START
        path = files[-1]
        size = path.stat().st_size
        if self._end is None or self._end[:2] != (path, size):
            self._end = self._read_end(files)
        _, size, number, last = self._end
        if size >= self._limit:
            path = path.with_name(f"{self.name}.{len(files) + 1:06}.jsonl")
        return path, number, last

    def _read_end(self, files: list[Path]) -> tuple[Path, int, int, str]:
        """The last whole line; a torn one behind it is ended and told about."""
        number, last, path = 0, START, files[-1]
        for file in reversed(files):
            whole = [read for read in map(read_line, lines_of(file)) if read is not None]
            if whole:
                number, last = whole[-1]["n"], whole[-1]["hash"]
                break
        torn = _torn(path)
        if torn is not None and (whole_after_all := read_line(torn + b"\n")) is not None:
            _append(path, b"\n")
            number, last = whole_after_all["n"], whole_after_all["hash"]
        elif torn is not None:
            record = self._record(number + 1, last, TORN, {"bytes": len(torn), "sha256": sha256_of(torn)})
            _append(path, b"\n" + _line(record))
            number, last = record["n"], record["hash"]
        return path, path.stat().st_size, number, last


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hash_of(record: Mapping[str, Any]) -> str:
    """Of everything in a line but the hash itself and what is made from it."""
    covered = {name: value for name, value in record.items() if name not in ("hash", "key", "seal")}
    return sha256_of(json.dumps(covered, sort_keys=True, separators=(",", ":")).encode())


def files_of(folder: Path, name: str) -> list[Path]:
    """A chain's files, the oldest first."""
    return sorted(folder.glob(f"{name}.??????.jsonl"))


def chains(folder: Path) -> list[str]:
    return sorted({path.name.rsplit(".", 2)[0] for path in folder.glob("*.??????.jsonl")})


def records(folder: Path) -> Iterator[Record]:
    """Every whole line of every chain, in the order of their time. What was made comes before what was decided of it in
    the same millisecond."""
    return heapq.merge(*(_records(folder, name) for name in chains(folder)), key=_moment)


def _moment(line: Record) -> tuple[float, bool]:
    return float(line["at"]), line["event"] != "made"


def _records(folder: Path, name: str) -> Iterator[Record]:
    for file in files_of(folder, name):
        yield from (read for read in map(read_line, lines_of(file)) if read is not None)


def lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def read_line(line: bytes) -> Record | None:
    """None for a torn line."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and line.endswith(b"\n") and "hash" in record else None


def _torn(path: Path) -> bytes | None:
    *_, last = [b"\n", *lines_of(path)]
    return None if last.endswith(b"\n") else last


def _line(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _append(path: Path, line: bytes) -> None:
    new = not path.exists()
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if new:
        descriptor = os.open(path.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
