"""The deployment's table of jobs, read with the service key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from workers.errors import Unreachable
from workers.supabase.web import auth_headers, reaching
from workers.trust import trusted

Row = dict[str, Any]
OPEN = ("queued", "processing")
MOST = 1000
"""Rows of one answer; the service gives no more by default."""

AT_ONCE = 100
"""Ids of one question, so that its address stays short."""


class JobRows:
    """`rest/v1/jobs`. Methods raise `Unreachable`."""

    def __init__(self, url: str, key: str, *, timeout: float = 10.0) -> None:
        self._address = f"{url.rstrip('/')}/rest/v1/jobs"
        self._http = httpx.Client(headers=auth_headers(key), timeout=timeout, verify=trusted())

    def open_between(self, oldest: float, newest: float) -> list[Row]:
        """id, job_type and created_at of jobs without an end, made between these epochs, the oldest first."""
        return self._read(
            ("select", "id,job_type,created_at"),
            ("status", f"in.({','.join(OPEN)})"),
            ("created_at", f"gte.{_iso(oldest)}"),
            ("created_at", f"lt.{_iso(newest)}"),
            ("order", "created_at.asc"),
            ("limit", str(MOST)),
        )

    def of(self, job_ids: Sequence[str]) -> list[Row]:
        """All that is known of these jobs."""
        found: list[Row] = []
        for start in range(0, len(job_ids), AT_ONCE):
            chosen = ",".join(job_ids[start : start + AT_ONCE])
            found += self._read(("select", "*"), ("id", f"in.({chosen})"))
        return found

    def close(self) -> None:
        self._http.close()

    def _read(self, *params: tuple[str, str]) -> list[Row]:
        with reaching("the table of jobs"):
            response = self._http.get(self._address, params=params)
        if not response.is_success:
            denied = response.status_code in (401, 403)
            raise Unreachable(f"the table of jobs answered {response.status_code}", denied=denied)
        try:
            rows = response.json()
        except ValueError:
            rows = None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Unreachable("the table of jobs was not understood")
        return rows


def _iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
