"""All that a Supabase project holds of one user's jobs: objects in every bucket, rows in every table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from workers.errors import Unreachable
from workers.job import UUID
from workers.supabase.web import auth_headers, reaching
from workers.trust import trusted

TABLES = ("workspace_assets", "images", "videos", "jobs")
"""Those that point at jobs come first."""

PAGE = 100
TIMEOUT = 30.0
ABSENT = (404, 406)


class Erasure:
    """One project, with the service key. Methods raise `Unreachable`; repeating them does no harm."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers=auth_headers(key), timeout=TIMEOUT, verify=trusted()
        )

    def objects(self, user_id: str, *, dry: bool = False) -> int:
        """Everything below the user's folder of every bucket; how many there were."""
        found = {bucket: list(self._below(bucket, _checked(user_id))) for bucket in self._buckets()}
        for bucket, paths in found.items():
            for start in range(0, 0 if dry else len(paths), PAGE):
                self._ask("DELETE", f"/storage/v1/object/{bucket}", json={"prefixes": paths[start : start + PAGE]})
        return sum(map(len, found.values()))

    def jobs(self, user_id: str) -> list[str]:
        """Ids of the user's jobs, as far as there are rows."""
        chosen = {"select": "id", "user_id": f"eq.{_checked(user_id)}"}
        return [str(row["id"]) for row in self._ask("GET", "/rest/v1/jobs", params=chosen).json()]

    def rows(self, user_id: str, *, dry: bool = False) -> dict[str, int]:
        """Table -> how many rows were the user's; one that this project does not have is left out."""
        found = {}
        for table in TABLES:
            chosen = {"select": "id", "user_id": f"eq.{_checked(user_id)}"}
            answer = self._ask("GET", f"/rest/v1/{table}", absent=True, params=chosen)
            if answer.status_code in ABSENT:
                continue
            found[table] = len(answer.json())
            if found[table] and not dry:
                self._ask("DELETE", f"/rest/v1/{table}", params={"user_id": f"eq.{user_id}"})
        return found

    def close(self) -> None:
        self._http.close()

    def _buckets(self) -> list[str]:
        return [str(bucket["id"]) for bucket in self._ask("GET", "/storage/v1/bucket").json()]

    def _below(self, bucket: str, folder: str) -> Iterator[str]:
        """Paths of objects at any depth. A folder has no id."""
        start, entries = 0, [None] * PAGE
        while len(entries) == PAGE:
            body = {"prefix": folder, "limit": PAGE, "offset": start, "sortBy": {"column": "name", "order": "asc"}}
            entries = self._ask("POST", f"/storage/v1/object/list/{bucket}", json=body).json()
            for entry in entries:
                path = f"{folder}/{entry['name']}"
                yield from [path] if entry.get("id") else self._below(bucket, path)
            start += PAGE

    def _ask(self, method: str, path: str, *, absent: bool = False, **what: Any) -> httpx.Response:
        with reaching("Supabase"):
            answer = self._http.request(method, path, **what)
        if not answer.is_success and not (absent and answer.status_code in ABSENT):
            raise Unreachable(f"{path} answered {answer.status_code}", denied=answer.status_code in (401, 403))
        return answer


def _checked(user_id: str) -> str:
    """It becomes a folder's name. Raises `ValueError`."""
    if not UUID.fullmatch(user_id):
        raise ValueError("a user's id is a lower-case UUID")
    return user_id
