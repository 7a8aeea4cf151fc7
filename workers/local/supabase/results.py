"""Jobs and what came of them, as a folder that opens from disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.local.supabase.buckets import SHARED
from workers.local.supabase.database import Row
from workers.local.supabase.job_callback import TERMINAL, Callback
from workers.local.supabase.objects import ObjectStore

PAGE = Path(__file__).with_name("page.html")
DATA_MARK = "null/*data*/"

Address = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class File:
    """A delivered object. `path` is inside its bucket."""

    bucket: str
    path: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Result:
    """One job as the page shows it. `report` is the metadata of its last callback."""

    job: Row
    files: tuple[File, ...]
    report: Mapping[str, Any]
    enhanced_prompt: str | None

    @property
    def id(self) -> str:
        return str(self.job["id"])

    def as_json(self, address: Address) -> dict[str, Any]:
        """`address` says where a reader of the page finds a file."""
        job = self.job
        return {
            "id": self.id,
            "type": job["job_type"],
            "status": job["status"],
            "prompt": job["metadata"].get("prompt", ""),
            "enhanced_prompt": self.enhanced_prompt,
            "error": job["error_message"],
            "created_at": job["created_at"],
            "completed_at": job["completed_at"],
            "report": self.report,
            "files": [
                {"src": address(f.bucket, f.path), "content_type": f.content_type, "size": f.size} for f in self.files
            ],
        }


def results_of(jobs: Sequence[Row], callbacks: Sequence[Callback], store: ObjectStore) -> list[Result]:
    accepted = {seen.job_id: seen for seen in callbacks if seen.answer == 200 and seen.status in TERMINAL}
    return [_result(job, accepted.get(job["id"]), store) for job in jobs]


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """The page with these results inside."""
    data = json.dumps(results, ensure_ascii=False).replace("<", "\\u003c")
    return PAGE.read_text(encoding="utf-8").replace(DATA_MARK, data)


def write_results(results: Sequence[Result], place: Callable[[str, str], Path], folder: Path) -> Path:
    """Put `index.html` and every delivered file into a folder. The page is returned; it needs no server.

    `place` says where the bytes of an object lie.
    """
    names: dict[tuple[str, str], str] = {}
    for result in results:
        for index, file in enumerate(result.files):
            name = f"{result.job['job_type']}-{result.id[:8]}-{index}{Path(file.path).suffix}"
            names[file.bucket, file.path] = name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place(file.bucket, file.path), folder / name)
    index_page = folder / "index.html"
    index_page.write_text(
        page([result.as_json(lambda bucket, path: names[bucket, path]) for result in results]), encoding="utf-8"
    )
    return index_page


def _result(job: Row, callback: Callback | None, store: ObjectStore) -> Result:
    body: Mapping[str, Any] = callback.body if callback else {}
    report = body.get("metadata") or {}
    assets = body.get("assets") or [] if job["status"] == "completed" else []
    found = [_file(asset, job["job_type"], store) for asset in assets]
    enhanced = body.get("enhancedPrompt") or report.get("enhanced_prompt")
    return Result(job, tuple(file for file in found if file is not None), report, enhanced)


def _file(asset: Any, job_type: str, store: ObjectStore) -> File | None:
    """The object behind an asset of either dialect, None where a callback names one that is not there."""
    bucket, path = (job_type, asset) if isinstance(asset, str) else (SHARED, asset.get("url", ""))
    row = store.find(bucket, path)
    return File(bucket, path, row["content_type"], row["size"]) if row else None
