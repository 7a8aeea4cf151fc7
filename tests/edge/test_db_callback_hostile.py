"""Callbacks that a worker of ours would not send: each is refused whole, and nothing of it stays."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from dbrig import Database, refused
from psycopg.types.json import Jsonb


@pytest.mark.parametrize("fence", [None, "x", -1, 1.5, [9], {"a": 1}, 1e40, "9" * 30])
def test_a_fence_that_is_none_counts_as_not_said(db: Database, fence: Any) -> None:
    job = db.job(db.user())
    db.hear(job, "processing", metadata={"fence": 7})
    assert db.hear(job, "completed", metadata={"fence": fence})["outcome"] == "applied"
    assert db.row("jobs", job)["fence"] == 7


def test_an_unknown_job_is_said_to_be_unknown(db: Database) -> None:
    for job in (str(uuid.uuid4()), "not-a-uuid", "' or 1=1 --"):
        with refused("PT404", "unknown_job"):
            db.rpc("receive_callback", p_body={"job_id": job, "status": "failed"})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"status": "failed"}, "job_id is required"),
        ({"job_id": "", "status": "failed"}, "job_id is required"),
        ({"job_id": "x"}, "status must be"),
        ({"job_id": "x", "status": "cancelled"}, "status must be"),
        ([], "job_id is required"),
        ("{", "job_id is required"),
    ],
)
def test_a_body_that_says_nothing_is_refused(db: Database, body: Any, said: str) -> None:
    with refused("PT400", "invalid", said):
        db.sql("select public.receive_callback(%s)", Jsonb(body))


def evil_assets(db: Database, job: str) -> list[list[Any]]:
    folder = db.assets(job)[0].removesuffix("0.png")
    other = f"{db.user()}/{job}/0.png"
    return [
        [],
        [other],
        [f"{folder}../{job}/0.png"],
        [f"{folder}.."],
        [f"{folder}0.png?token=1"],
        [f"{folder}a/0.png"],
        ["https://example.com/0.png"],
        [None],
        [7],
        [{"thumbnail_url": f"{folder}0.png"}],
        [{"url": f"{folder}0.png", "thumbnail_url": other}],
        [{"url": f"{folder}0.png", "thumbnail_url": f"{folder}../0.thumb.webp"}],
        [f"{folder}0.png", other],
        [f"{folder}{index}.png" for index in range(17)],
    ]


def test_assets_elsewhere_than_in_the_jobs_folder_change_nothing(db: Database) -> None:
    job = db.job(db.user())
    for assets in evil_assets(db, job):
        with refused("PT400", "invalid", "assets"):
            db.hear(job, "completed", assets=assets, webhook=f"{job}.completed")
    assert db.status(job) == "queued"
    assert db.hear(job, "completed", webhook=f"{job}.completed")["outcome"] == "applied"
