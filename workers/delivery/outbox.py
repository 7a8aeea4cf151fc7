"""Finished files on the volume, one folder a job, so that no GPU work is repeated for a fault on the way out.

A folder is written under its claim's token and renamed to the job id when it is complete; who loses that rename
discards. Only the holder of a job's claim looks into its folder.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers import crash
from workers.job import Artifact
from workers.logs import log
from workers.records import known
from workers.safety.veil import Veil

RECORD = "record.json"
HOUR, DAY = 3_600.0, 86_400.0
MIB = 2**20
PROBE = bytes(4096)
_VOLUME_FAULTS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOTCONN}
)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A complete folder: its artifacts, and what the callback will say once they are uploaded."""

    folder: Path
    job_id: str
    type: str
    user_id: str
    artifacts: tuple[Artifact, ...]
    enhanced_prompt: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Outbox:
    """The folder `OUTBOX_DIR`, shared by all workers of a volume. `min_free` and `quota` are bytes; 0 is no quota.
    `veil` covers what records say of prompts."""

    def __init__(self, root: Path, min_free: int = 512 * MIB, quota: int = 0, veil: Veil | None = None) -> None:
        self.root, self._veil = root, veil
        self._min_free, self._quota = min_free, quota
        self._volume: int | None = None

    def problem(self) -> str | None:
        """Why nothing can be kept here now, if so: then no job should be claimed."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            volume = self.root.stat().st_dev
            if self._volume not in (None, volume):
                return "the outbox's volume is gone"
            self._volume = volume
            self._try_to_write()
            return self._shortage()
        except OSError as error:
            return f"the outbox cannot be written: {error.strerror}"

    def _try_to_write(self) -> None:
        """A quota of the volume shows in no figure, only in a refusal."""
        probe = self.root / f".probe-{os.getpid()}"
        try:
            probe.write_bytes(PROBE)
        finally:
            probe.unlink(missing_ok=True)

    def _shortage(self) -> str | None:
        """Files that nobody came for in an hour are the first to go: without them a job is only made again."""
        free = shutil.disk_usage(self.root).free
        if free < self._min_free:
            return f"the outbox has only {free // MIB} MiB left"
        if self._quota and _size(self.root) > self._quota:
            if swept := self.sweep(HOUR):
                log.warning("outbox swept", folders=len(swept), reason="quota")
            if (held := _size(self.root)) > self._quota:
                return f"the outbox holds {held // MIB} MiB, more than its quota of {self._quota // MIB}"
        return None

    def stage(self, token: str) -> Path:
        """An empty folder to encode into."""
        folder = self.root / f".{token}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def seal(self, staged: Path, sealed: Sealed) -> Sealed:
        """Make a staged folder the job's own. An earlier complete one wins, and the staged one is discarded."""
        record = {
            "job_id": sealed.job_id,
            "type": sealed.type,
            "user_id": sealed.user_id,
            "enhanced_prompt": sealed.enhanced_prompt,
            "metadata": dict(sealed.metadata),
            "artifacts": [_artifact_record(artifact) for artifact in sealed.artifacts],
        }
        try:
            _write_durably(staged / RECORD, json.dumps(self._covered(record), ensure_ascii=False).encode())
        except OSError:
            self.discard(staged)
            raise
        crash.point("unsealed")
        final = self.root / sealed.job_id
        try:
            staged.rename(final)
        except OSError:
            self._lose_or_replace(staged, sealed.job_id)
        _sync_folder(self.root)
        found = self.find(sealed.job_id)
        if found is None:
            raise FileNotFoundError(final)
        return found

    def find(self, job_id: str) -> Sealed | None:
        """The job's complete folder on this volume, if there is one."""
        folder = self.root / job_id
        try:
            record = json.loads((folder / RECORD).read_bytes())
            record = self._veil.uncover(record) if self._veil else record
            artifacts = tuple(_artifact(folder, item) for item in record.pop("artifacts"))
            return Sealed(folder=folder, artifacts=artifacts, **known(Sealed, record))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _covered(self, record: dict[str, Any]) -> dict[str, Any]:
        return self._veil.cover(record) if self._veil else record

    def _lose_or_replace(self, staged: Path, job_id: str) -> None:
        """The name is taken: by a complete folder, which wins, or by a torn one."""
        complete = self.find(job_id) is not None
        shutil.rmtree(staged if complete else self.root / job_id, ignore_errors=True)
        if not complete:
            staged.rename(self.root / job_id)

    def discard(self, staged: Path) -> None:
        shutil.rmtree(staged, ignore_errors=True)

    def remove(self, job_id: str) -> None:
        """The job is delivered: its files are not needed any more. Harmless when repeated."""
        shutil.rmtree(self.root / job_id, ignore_errors=True)

    def jobs(self) -> list[str]:
        """The ids of jobs with a folder here."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        return [folder.name for folder in folders if not folder.name.startswith(".")]

    def collect_garbage(self, is_delivered: Callable[[str], bool], max_age: float = 7 * DAY) -> Sequence[str]:
        """Remove files of jobs whose worker died after they were delivered, and what nobody came back for in `max_age`
        seconds, which is returned."""
        for job_id in self.jobs():
            if is_delivered(job_id):
                self.remove(job_id)
        return self.sweep(max_age)

    def sweep(self, max_age: float = 7 * DAY) -> Sequence[str]:
        """Remove what nobody came back for: complete folders after `max_age` seconds, staged ones after a day."""
        removed = []
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            limit = min(DAY, max_age) if folder.name.startswith(".") else max_age
            if folder.is_dir() and time.time() - folder.stat().st_mtime > limit:
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder.name)
        return removed


def _artifact_record(artifact: Artifact) -> dict[str, Any]:
    return {
        "index": artifact.index,
        "file": artifact.path.name,
        "content_type": artifact.content_type,
        "size": artifact.size,
        "frames": artifact.frames,
        "seed": artifact.seed,
        "thumbnail": artifact.thumbnail.name if artifact.thumbnail else None,
    }


def _artifact(folder: Path, record: Mapping[str, Any]) -> Artifact:
    thumbnail = record["thumbnail"]
    path = folder / record["file"]
    if not path.is_file():
        raise FileNotFoundError(path)
    return Artifact(
        index=record["index"],
        path=path,
        content_type=record["content_type"],
        size=(record["size"][0], record["size"][1]),
        frames=record["frames"],
        seed=record["seed"],
        thumbnail=folder / thumbnail if thumbnail else None,
    )


def volume_fault(error: BaseException) -> str | None:
    """What is wrong with the volume, where this error says so: then the job is innocent."""
    return error.strerror if isinstance(error, OSError) and error.errno in _VOLUME_FAULTS else None


def _size(folder: Path) -> int:
    """Bytes of all files below; some may go meanwhile."""
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(here, name).stat().st_size
    return total


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
