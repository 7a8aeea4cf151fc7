"""Is the audit as it was written? Every line of every chain is read again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workers.safety.audit import START, TORN, Key, Record, files_of, hash_of, lines_of, read_line, sha256_of


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of one chain. `fault` says what is wrong and where, in words. `sealed` lines were sealed with this
    key, `foreign` ones with another. Who took lines from the very end is found out by comparing `head`, the hash of the
    last line, with one noted elsewhere: workers log it when they start."""

    chain: str
    lines: int
    head: str
    sealed: int = 0
    foreign: int = 0
    fault: str | None = None


class _Broken(Exception):
    pass


def prove(folder: Path, name: str, key: Key) -> Proof:
    """Raises `OSError` only."""
    number, last, sealed, foreign = 0, START, 0, 0
    try:
        for where, record in _numbered(folder, name):
            _check(record, number, last, where)
            number, last = record["n"], record["hash"]
            ours = record.get("key") == key.name
            if ours and record.get("seal") != key.mac(last):
                raise _Broken(f"{where}: the seal is not ours")
            sealed, foreign = sealed + ours, foreign + (not ours)
    except _Broken as broken:
        return Proof(name, number, last, sealed, foreign, str(broken))
    return Proof(name, number, last, sealed, foreign)


def _check(record: Record, number: int, last: str, where: str) -> None:
    if record.get("n") != number + 1 or record.get("prev") != last:
        raise _Broken(f"{where}: it does not follow the line before")
    if hash_of(record) != record.get("hash"):
        raise _Broken(f"{where}: it was changed")


def _numbered(folder: Path, name: str) -> Iterator[tuple[str, Record]]:
    """Each record and where it stands. A torn line is one that the next line tells about."""
    torn: bytes | None = None
    for file in files_of(folder, name):
        for number, line in enumerate(lines_of(file), 1):
            where, record = f"{file.name} line {number}", read_line(line)
            if torn is not None and (record is None or record.get("sha256") != sha256_of(torn)):
                raise _Broken(f"{where}: it does not tell about the torn line before")
            if record is None:
                torn = line.removesuffix(b"\n")
                continue
            if record.get("event") == TORN and torn is None:
                raise _Broken(f"{where}: the torn line is gone")
            torn = None
            yield where, record
