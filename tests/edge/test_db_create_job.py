"""A request becomes a job with its rows, its price and its message, or nothing at all."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dbrig import PROMPT, Database, refused

from workers import payload
from workers.resolve import default_seed, resolve
from workers.supervision.reconciler import rebuilt
from workers.tables import load_presets

PRESETS = load_presets()
TEN = sorted(t for t, preset in PRESETS.items() if preset.media in ("image", "video"))


@contextmanager
def setting(db: Database, key: str, value: Any) -> Iterator[None]:
    (before,) = db.sql("select value from public.system_config where key = %s", key)
    statement = "update public.system_config set value = %s::jsonb where key = %s"
    db.sql(statement, json.dumps(value), key)
    yield
    db.sql(statement, json.dumps(before["value"]), key)


@pytest.mark.parametrize("job_type", TEN)
def test_the_workers_read_the_message_of_every_type(db: Database, job_type: str) -> None:
    user = db.user()
    made = db.create(user, job_type)
    job = payload.parse(json.dumps(made["payload"]))
    params = resolve(job, PRESETS[job_type])
    assert (job.id, job.type, job.user_id, job.prompt) == (made["job"]["id"], job_type, user, PROMPT)
    assert made["queue"] == f"{PRESETS[job_type].kind}_queue"
    assert params.seeds[0] == made["job"]["seed"] == default_seed(job.id)
    assert not params.adjusted


@pytest.mark.parametrize("job_type", TEN)
@pytest.mark.parametrize("row", ["to_jsonb(jobs)", "to_jsonb(jobs) - 'payload'"])
def test_what_the_reconciler_rebuilds_means_the_same(db: Database, job_type: str, row: str) -> None:
    made = db.create(db.user(), job_type, config={"seed": 7}, metadata={"note": "at dusk"})
    text = rebuilt(db.one(f"select {row} from public.jobs where id = %s", made["job"]["id"]))
    assert text is not None
    again, first = payload.parse(text), payload.parse(json.dumps(made["payload"]))
    assert resolve(again, PRESETS[job_type]) == resolve(first, PRESETS[job_type])
    assert (again.prompt, again.rating, again.user_id) == (first.prompt, first.rating, first.user_id)


@pytest.mark.parametrize(("asked", "rows"), [(1, 1), (3, 3), (6, 6), (None, 6), (3.0, 3)])
def test_a_batch_has_a_row_for_each_image(db: Database, asked: float | None, rows: int) -> None:
    made = db.create(db.user(), "sdxl_image_fast", metadata={} if asked is None else {"num_images": asked})
    images = db.rows("images", made["job"]["id"])
    assert [image["image_index"] for image in images] == list(range(rows))
    assert str(images[0]["id"]) == made["job"]["image_id"] == made["payload"]["image_id"]
    assert {image["status"] for image in images} == {"queued"}


def test_a_video_has_one_row_that_its_job_is_linked_to(db: Database) -> None:
    made = db.create(db.user(), "video_fast")
    (video,) = db.rows("videos", made["job"]["id"])
    assert str(video["id"]) == made["job"]["video_id"]
    assert db.rows("images", made["job"]["id"]) == []


def test_a_clients_own_image_id_becomes_the_first_rows(db: Database) -> None:
    image = str(uuid.uuid4())
    job = db.job(db.user(), "sdxl_image_fast", image_id=image, config={"num_images": 3})
    assert str(db.rows("images", job)[0]["id"]) == image


def test_a_row_of_another_user_cannot_be_taken_over(db: Database) -> None:
    owner, thief = db.user(), db.user()
    image = str(db.rows("images", db.job(owner))[0]["id"])
    with refused("PT400", "invalid", "image_id is taken"):
        db.job(thief, image_id=image)
    assert db.credits(thief) == 100


def test_nothing_that_the_server_decides_is_taken_from_the_client(db: Database) -> None:
    wishes = {"priority": 99, "consent_id": str(uuid.uuid4()), "tier": "explicit", "rating": "adult", "user_id": "x"}
    user = db.user()
    made = db.create(user, **wishes | {"rating": "sfw", "bucket": "system_assets", "credits": 0, "metadata": wishes})
    job, sent = made["job"], made["payload"]
    assert (job["priority"], job["consent_id"], job["rating"], job["status"]) == (0, None, "sfw", "queued")
    assert (sent["priority"], sent["rating"], sent["bucket"], sent["user_id"]) == (0, "sfw", "image_fast", user)
    assert not {"consent_id", "tier"} & (sent.keys() | sent["metadata"].keys())
    assert db.credits(user) == 99


@pytest.mark.parametrize(("tier", "priority"), [("free", 0), ("plus", 10), ("pro", 20)])
def test_a_users_tier_is_the_messages_priority(db: Database, tier: str, priority: int) -> None:
    assert db.create(db.user(tier=tier))["payload"]["priority"] == priority


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"job_type": "image_slow"}, "job_type"),
    ({"job_type": None}, "job_type"),
    ({"job_type": {"$ne": ""}}, "job_type"),
    ({"prompt": 7}, "prompt"),
    ({"prompt": "lighthouse " * 400}, "prompt"),
    ({"negative_prompt": "blur " * 401}, "negative_prompt"),
    ({"config": [1]}, "config"),
    ({"config": {"note": "x" * 8200}}, "config"),
    ({"metadata": "text"}, "metadata"),
    ({"config": {"seed": "7"}}, "seed"),
    ({"config": {"seed": 0.5}}, "seed"),
    ({"config": {"seed": 4294967296}}, "seed"),
    ({"job_type": "sdxl_image_fast", "config": {"num_images": 2}}, "num_images"),
    ({"job_type": "sdxl_image_fast", "config": {"num_images": 1e30}}, "num_images"),
    ({"image_id": "../../system_assets"}, "image_id"),
    ({"character_id": 5}, "character_id"),
    ({"rating": "explicit"}, "rating"),
    ({"idempotency_key": "k" * 201}, "idempotency_key"),
    ({"job_type": "enhance_prompt", "prompt": ""}, "prompt"),
    ({"job_type": "enhance_prompt", "draft": True}, "draft"),
]


@pytest.mark.parametrize(("wish", "field"), WRONG)
def test_a_wrong_field_is_named_and_leaves_nothing(db: Database, wish: dict[str, Any], field: str) -> None:
    user = db.user()
    with refused("PT400", "invalid") as caught:
        db.create(user, **wish)
    assert caught.value.diag.message_detail == field
    assert (db.credits(user), db.one("select count(*) from public.jobs where user_id = %s", user)) == (100, 0)


@pytest.mark.parametrize(
    "text", ["'; drop table public.jobs; --", "$$ || pg_sleep(9) || $$", "%s %I {0} \\", "'' or 1=1"]
)
def test_text_stays_text(db: Database, text: str) -> None:
    made = db.create(db.user(), prompt=text, metadata={text: text}, idempotency_key=text)
    assert made["payload"]["prompt"] == text == db.rows("images", made["job"]["id"])[0]["prompt"]
    assert made["job"]["metadata"][text] == text


def test_a_request_that_came_as_text_is_read(db: Database) -> None:
    user, wish = db.user(), json.dumps(json.dumps({"job_type": "image_fast"}))
    assert db.one("select public.create_job(%s, %s::jsonb) ->> 'created'", user, wish) == "true"


def test_the_same_key_answers_with_the_same_job(db: Database) -> None:
    user = db.user()
    first, second = (db.create(user, idempotency_key="one") for _ in range(2))
    assert (first["created"], second["created"]) == (True, False)
    assert first["job"]["id"] == second["job"]["id"]
    assert db.credits(user) == 99


def test_the_same_key_for_something_else_is_refused(db: Database) -> None:
    user = db.user()
    db.create(user, idempotency_key="one")
    with refused("PT409", "key_reused"):
        db.create(user, "video_fast", idempotency_key="one")


def test_keys_of_two_users_have_nothing_to_do_with_each_other(db: Database) -> None:
    assert all(db.create(db.user(), idempotency_key="one")["created"] for _ in range(2))


def test_no_more_jobs_wait_than_the_tier_allows(db: Database) -> None:
    user = db.user()
    jobs = [db.job(user) for _ in range(5)]
    with refused("PT429", "waiting"):
        db.job(user)
    db.hear(jobs[0], "processing")
    assert db.job(user)


def test_the_daily_quota_counts_by_the_ledger_that_no_user_can_shorten(own_db: Database) -> None:
    own_db.sql("update public.tiers set daily_jobs = 2 where tier = 'free'")
    user = own_db.user()
    for _ in range(2):
        own_db.hear(own_db.job(user), "completed")
    own_db.sql("delete from public.jobs where user_id = %s", user)
    with refused("PT429", "quota"):
        own_db.job(user)


def test_texts_and_pictures_do_not_use_up_each_others_places(own_db: Database) -> None:
    own_db.sql("update public.tiers set daily_jobs = 2, waiting_jobs = 2 where tier = 'free'")
    user = own_db.user()
    for job_type in ("enhance_prompt", "image_fast"):
        jobs = [own_db.job(user, job_type) for _ in range(2)]
        with refused("PT429", "waiting"):
            own_db.job(user, job_type)
        for job in jobs:
            own_db.hear(job, "completed", enhancedPrompt="a red bicycle in the rain")
        with refused("PT429", "quota"):
            own_db.job(user, job_type)


def test_a_failed_job_does_not_count_against_the_quota(own_db: Database) -> None:
    own_db.sql("update public.tiers set daily_jobs = 1 where tier = 'free'")
    user = own_db.user()
    own_db.hear(own_db.job(user), "failed")
    assert own_db.job(user)


def test_suspended_unknown_and_closed(db: Database) -> None:
    with refused("PT403", "suspended"):
        db.create(db.user(suspended=True))
    with refused("PT403", "unknown_user"):
        db.create(str(uuid.uuid4()))
    with setting(db, "accepting_jobs", False), refused("PT503", "closed"):
        db.create(db.user())


def test_adult_work_needs_the_deployments_and_the_accounts_leave(own_db: Database) -> None:
    plain, trusted = own_db.user(), own_db.user(max_rating="adult")
    with refused("PT403", "rating"):
        own_db.create(trusted, rating="adult")
    own_db.sql("""update public.system_config set value = '"adult"' where key = 'max_rating'""")
    with refused("PT403", "rating"):
        own_db.create(plain, rating="adult")
    assert own_db.create(trusted, rating="adult")["payload"]["rating"] == "adult"
    assert own_db.create(trusted, rating="adult", metadata={"content_type": "sfw"})["payload"]["rating"] == "sfw"
    assert own_db.create(trusted)["payload"]["rating"] == "sfw"


def test_the_estimate_counts_who_is_served_before(own_db: Database) -> None:
    first, later, favoured = own_db.user(), own_db.user(), own_db.user(tier="pro")
    assert own_db.create(first)["position"] == 1
    second = own_db.create(later, "video_fast")
    assert (second["position"], second["waiting"], second["estimate_seconds"]) == (2, 2, 73 + 180)
    assert own_db.create(favoured)["position"] == 1
    assert own_db.rpc("queue_estimate", p_job=second["job"]["id"])["position"] == 3
    assert own_db.create(first, "sdxl_image_fast")["position"] == 1
