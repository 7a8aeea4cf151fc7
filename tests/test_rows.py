"""What the table of jobs answers, and what it may answer instead."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from office import Office, ago
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from workers.errors import Unreachable
from workers.local.serving import LocalServer
from workers.supabase.rows import JobRows


def test_open_jobs_come_with_what_is_needed_to_look_for_them_oldest_first(office: Office) -> None:
    young, old, done = office.submit(), office.submit("video_fast"), office.submit()
    office.change(old, created_at=ago(10))
    office.change(done, status="failed")
    rows = office.rows.open_between(time.time() - 3600, time.time() + 60)
    assert [row["id"] for row in rows] == [old, young]
    assert set(rows[0]) == {"id", "job_type", "created_at"}


def test_only_jobs_of_the_asked_time_come(office: Office) -> None:
    office.submit()
    old = office.submit()
    office.change(old, created_at=ago(10))
    assert [row["id"] for row in office.rows.open_between(time.time() - 900, time.time() - 300)] == [old]


def test_any_number_of_jobs_can_be_read_whole(office: Office) -> None:
    jobs = {office.submit() for _ in range(120)}
    rows = office.rows.of(sorted(jobs))
    assert {row["id"] for row in rows} == jobs
    assert rows[0]["metadata"]["prompt"] == "a red bicycle"


class Parrot:
    def __init__(self, answer: JSONResponse) -> None:
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.answer(scope, receive, send)


@pytest.mark.parametrize(
    ("answer", "denied"),
    [
        (JSONResponse([], 401), True),
        (JSONResponse([], 500), False),
        (JSONResponse({}), False),
        (JSONResponse([5]), False),
    ],
)
def test_an_answer_that_is_no_table_is_never_read_as_no_jobs(answer: JSONResponse, denied: bool) -> None:
    with LocalServer(Parrot(answer)) as server, closing(JobRows(server.url, "key")) as rows:
        with pytest.raises(Unreachable) as caught:
            rows.open_between(0, 1)
        assert caught.value.denied == denied


def test_nobody_answering_is_unreachable() -> None:
    with closing(JobRows("http://127.0.0.1:9", "key")) as rows, pytest.raises(Unreachable):
        rows.of(["a"])
