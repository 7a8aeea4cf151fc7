"""One callback is one transaction: assets first, then the status; the same word again changes nothing."""

from __future__ import annotations

import pytest
from dbrig import Database, refused, run

ENDS = ["completed", "failed"]
FORBIDDEN = [
    ("queued", "completed"),
    ("processing", "queued"),
    ("completed", "failed"),
    ("completed", "processing"),
    ("failed", "completed"),
    ("failed", "queued"),
    ("cancelled", "processing"),
    ("cancelled", "completed"),
]


def brought_to(db: Database, status: str) -> str:
    user = db.user()
    job = db.job(user)
    if status == "cancelled":
        db.rpc("cancel_job", p_user=user, p_job=job)
    elif status != "queued":
        db.hear(job, status)
    return job


@pytest.mark.parametrize(("before", "after"), FORBIDDEN)
def test_no_client_of_the_table_can_leave_the_order_of_states(db: Database, before: str, after: str) -> None:
    job = brought_to(db, before)
    with refused("PT409", "ended"):
        db.sql("update public.jobs set status = %s where id = %s", after, job)
    assert db.status(job) == before


def test_a_job_begins_as_queued(db: Database) -> None:
    with refused("PT409", "ended"):
        db.sql("insert into public.jobs (user_id, job_type, status) values (%s, 'image_fast', 'completed')", db.user())


def test_whose_a_job_is_cannot_be_changed(db: Database) -> None:
    with refused("PT409", "immutable"):
        db.sql("update public.jobs set user_id = %s where id = %s", db.user(), db.job(db.user()))


def test_processing_shows_in_the_job_and_its_images(db: Database) -> None:
    job = db.job(db.user(), "sdxl_image_fast", config={"num_images": 3})
    assert db.hear(job, "processing")["outcome"] == "applied"
    assert {image["status"] for image in db.rows("images", job)} == {"processing"}
    assert db.row("jobs", job)["started_at"] is not None


def test_a_batch_of_paths_fills_its_rows_in_order(db: Database) -> None:
    job = db.job(db.user(), "sdxl_image_fast", config={"num_images": 3})
    db.hear(
        job,
        "completed",
        enhancedPrompt="a red bicycle by a wall",
        metadata={"seeds": [1, 2, 3], "fence": 5, "attempt": 2},
    )
    images = db.rows("images", job)
    assert [image["image_url"] for image in images] == db.assets(job)
    assert {(image["status"], image["bucket"], image["enhanced_prompt"]) for image in images} == {
        ("completed", "sdxl_image_fast", "a red bicycle by a wall")
    }
    row = db.row("jobs", job)
    assert (row["fence"], row["attempts"], row["metadata"]["seeds"]) == (5, 2, [1, 2, 3])
    assert row["metadata"]["prompt"] == "a red bicycle"


def test_objects_bring_thumbnails_and_facts(db: Database) -> None:
    job = db.job(db.user(), "video_fast")
    (path,) = db.assets(job)
    asset = {"type": "video", "url": path, "thumbnail_url": f"{path[:-4]}.thumb.webp", "metadata": {"frames": 81}}
    db.hear(job, "completed", assets=[asset])
    (video,) = db.rows("videos", job)
    assert (video["video_url"], video["thumbnail_url"]) == (path, asset["thumbnail_url"])
    assert (video["bucket"], video["metadata"]) == ("workspace-temp", {"frames": 81})
    assert video["completed_at"] is not None


@pytest.mark.parametrize("spelling", ["imageUrls", "results", "filePath", "outputUrl"])
def test_older_spellings_of_assets_are_read(db: Database, spelling: str) -> None:
    job = db.job(db.user())
    paths = db.assets(job)
    spelled = {"imageUrls": paths, "results": {"assets": paths}, "filePath": paths[0], "outputUrl": paths[0]}
    body = {"jobId": job, "status": "completed", spelling: spelled[spelling]}
    db.rpc("receive_callback", p_body=body)
    assert db.rows("images", job)[0]["image_url"] == paths[0]


def test_rows_that_are_missing_are_made(db: Database) -> None:
    job = db.job(db.user(), "sdxl_image_fast", config={"num_images": 3})
    assets = db.assets(job)
    db.sql("delete from public.images where job_id = %s", job)
    db.sql("update public.jobs set image_id = null where id = %s", job)
    db.hear(job, "completed", assets=assets)
    images = db.rows("images", job)
    assert [image["image_url"] for image in images] == assets
    assert db.row("jobs", job)["image_id"] == images[0]["id"]


def test_a_job_of_a_producer_without_rows_gets_them(db: Database) -> None:
    made = db.sql(
        "insert into public.jobs (user_id, job_type) values (%s, 'video_fast') returning id, user_id", db.user()
    )
    job, user = str(made[0]["id"]), made[0]["user_id"]
    db.hear(job, "completed", assets=[f"{user}/{job}/0.mp4"])
    assert [video["status"] for video in db.rows("videos", job)] == ["completed"]
    assert db.ledger(job) == {}


def test_images_that_did_not_come_are_failed(db: Database) -> None:
    job = db.job(db.user(), "sdxl_image_fast", config={"num_images": 3})
    db.hear(job, "completed", assets=db.assets(job, 2))
    assert [image["status"] for image in db.rows("images", job)] == ["completed", "completed", "failed"]


def test_failure_reaches_every_row_with_a_sentence(db: Database) -> None:
    job = db.job(db.user(), "sdxl_image_fast", config={"num_images": 3})
    db.hear(job, "failed", errorMessage="The model could not be loaded.", error_type="failed")
    row = db.row("jobs", job)
    assert (row["status"], row["error_type"]) == ("failed", "failed")
    assert {image["error_message"] for image in db.rows("images", job)} == {"The model could not be loaded."}


def test_a_text_needs_no_assets(db: Database) -> None:
    job = db.job(db.user(), "enhance_prompt")
    db.hear(job, "completed", assets=[], enhancedPrompt="a red bicycle in the rain")
    row = db.row("jobs", job)
    assert row["metadata"]["enhanced_prompt"] == row["enhanced_prompt"] == "a red bicycle in the rain"


@pytest.mark.parametrize("end", ENDS)
def test_the_same_webhook_id_is_applied_once(db: Database, end: str) -> None:
    job = db.job(db.user())
    outcomes = [db.hear(job, end, webhook=f"{job}.{end}")["outcome"] for _ in range(3)]
    assert outcomes == ["applied", "duplicate", "duplicate"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("later", ["processing", "completed", "failed"])
def test_an_end_is_final(db: Database, end: str, later: str) -> None:
    job = brought_to(db, end)
    before = (db.row("jobs", job), db.rows("images", job))
    assert db.hear(job, later)["outcome"] == "skipped"
    assert (db.row("jobs", job), db.rows("images", job)) == before


@pytest.mark.parametrize("status", ["processing", "completed", "failed"])
def test_a_strictly_lower_fence_is_refused(db: Database, status: str) -> None:
    job = db.job(db.user())
    db.hear(job, "processing", metadata={"fence": 1_800_000_000_005})
    with refused("PT409", "stale_fence"):
        db.hear(job, status, metadata={"fence": 1_800_000_000_004})
    assert db.status(job) == "processing"
    assert db.hear(job, status, metadata={"fence": 1_800_000_000_005})["outcome"] == "applied"


def test_a_worker_that_lost_its_lease_is_refused_after_the_end_too(db: Database) -> None:
    job = db.job(db.user())
    db.hear(job, "completed", metadata={"fence": 7})
    with refused("PT409", "stale_fence"):
        db.hear(job, "completed", metadata={"fence": 6})


def test_what_a_late_success_left_behind_is_named(db: Database) -> None:
    job = brought_to(db, "cancelled")
    heard = db.hear(job, "completed")
    assert (heard["outcome"], heard["status"]) == ("skipped", "cancelled")
    assert heard["discard"] == [{"bucket": "image_fast", "path": path} for path in db.assets(job)]
    assert db.hear(brought_to(db, "completed"), "completed")["discard"] == []


def test_the_workers_own_patch_of_a_row_without_index_still_works(db: Database) -> None:
    job = db.job(db.user())
    db.sql("update public.images set image_index = null where job_id = %s", job)
    patch = "update public.images set status = 'completed' where job_id = %s and image_index is null"
    with db.acting("service_role", None, keep=True) as service:
        run(service, patch, job)
    assert db.rows("images", job)[0]["status"] == "completed"


def test_deleting_a_users_account_takes_everything_but_the_accounts(db: Database) -> None:
    user = db.user()
    job = db.job(user)
    db.hear(job, "completed")
    db.sql("delete from auth.users where id = %s", user)
    assert db.sql("select 1 from public.jobs where id = %s", job) == []
    assert db.one("select count(*) from public.usage_logs where job_id = %s and user_id is null", job) == 1
    with refused("PT404", "unknown_job"):
        db.rpc("receive_callback", p_body={"job_id": job, "status": "failed"})
