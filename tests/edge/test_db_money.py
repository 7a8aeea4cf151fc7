"""Credits: reserved once, paid by what is completed, given back by what is not."""

from __future__ import annotations

import pytest
from dbrig import Database, refused

END = {
    "completed": {"reserve", "release", "debit"},
    "failed": {"reserve", "refund"},
    "cancelled": {"reserve", "refund"},
}
PRICE = 3


def finish(db: Database, user: str, job: str, end: str) -> None:
    if end == "cancelled":
        db.rpc("cancel_job", p_user=user, p_job=job)
    else:
        db.hear(job, end)


def balanced(db: Database, user: str) -> bool:
    """The balance is what the ledger says."""
    return bool(db.one("select sum(amount) from public.credit_ledger where user_id = %s", user) == db.credits(user))


def test_a_new_user_has_credits_to_begin_with(db: Database) -> None:
    user = db.user()
    assert db.credits(user) == 100
    assert balanced(db, user)


@pytest.mark.parametrize(("end", "left"), [("completed", 97), ("failed", 100), ("cancelled", 100)])
@pytest.mark.parametrize("begun", [False, True])
def test_only_what_is_completed_costs(db: Database, end: str, left: int, begun: bool) -> None:
    user = db.user()
    job = db.job(user, "video_fast")
    assert db.credits(user) == 97
    if begun:
        db.hear(job, "processing")
    finish(db, user, job, end)
    assert db.credits(user) == left
    assert db.ledger(job).keys() == END[end]
    assert balanced(db, user)


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_nothing_is_paid_twice(db: Database, end: str) -> None:
    user = db.user()
    job = db.job(user, "video_fast")
    for later in (end, end, "failed", "completed"):
        db.hear(job, later)
    assert db.credits(user) == (97 if end == "completed" else 100)
    assert balanced(db, user)


def test_whatever_ends_a_job_settles_it(db: Database) -> None:
    user = db.user()
    job = db.job(user)
    db.sql("update public.jobs set status = 'failed' where id = %s", job)
    assert db.credits(user) == 100


def test_a_callback_that_is_refused_moves_no_money(db: Database) -> None:
    user = db.user()
    job = db.job(user)
    with refused("PT400"):
        db.hear(job, "completed", assets=["elsewhere.png"])
    assert db.ledger(job).keys() == {"reserve"}


def test_who_has_too_few_credits_gets_no_job(db: Database) -> None:
    user = db.user(credits=2)
    with refused("PT402", "credits", "costs 3 credits, 2 are left"):
        db.job(user, "video_fast")
    assert db.sql("select 1 from public.jobs where user_id = %s", user) == []
    assert db.credits(user) == 2


def test_the_table_itself_refuses_a_negative_balance(db: Database) -> None:
    with refused("23514"):
        db.sql("update public.profiles set credits = -1 where id = %s", db.user())


def test_a_refused_push_gives_the_credits_back(db: Database) -> None:
    user = db.user()
    job = db.job(user)
    assert db.rpc("fail_push", p_job=job, p_reason="The queue is full.") == {"failed": True, "status": "failed"}
    assert db.rpc("fail_push", p_job=job) == {"failed": False, "status": "failed"}
    assert (db.credits(user), db.row("jobs", job)["error_message"]) == (100, "The queue is full.")


def test_a_push_that_a_worker_has_seen_cannot_be_called_failed(db: Database) -> None:
    job = db.job(db.user())
    db.hear(job, "processing")
    assert db.rpc("fail_push", p_job=job) == {"failed": False, "status": "processing"}


def test_an_admin_gives_and_takes_but_not_below_nothing(db: Database) -> None:
    user = db.user()
    assert db.rpc("grant_credits", p_user=user, p_amount=-40, p_reason="refund of a card") == 60
    with refused("PT402", "credits"):
        db.rpc("grant_credits", p_user=user, p_amount=-61, p_reason="too much")
    assert balanced(db, user)


def test_usage_is_counted_per_user_type_and_day(db: Database) -> None:
    user = db.user()
    timings = {"load": 10.0, "denoise": 170.0, "upload": 99.0, "callback": "soon", "decode": -4}
    db.hear(db.job(user, "video_fast"), "completed", metadata={"timings": timings})
    db.hear(db.job(user, "video_fast"), "failed")
    (line,) = db.sql("select * from public.usage_by_day where user_id = %s", user)
    assert (line["job_type"], line["jobs"], line["completed"], line["failed"]) == ("video_fast", 2, 1, 1)
    assert (line["credits"], line["seconds"], float(line["cost_usd"])) == (PRICE, 180, pytest.approx(0.03))


def test_a_draft_is_cheaper_and_its_message_has_fewer_steps(db: Database) -> None:
    made = db.create(db.user(), "video_high", draft=True, config={"sample_steps": 40})
    config = made["payload"]["config"]
    assert (made["job"]["credits"], made["job"]["quality"], made["credits_left"]) == (1, "draft", 99)
    assert (config["sample_steps"], config["num_inference_steps"]) == (8, 8)


def test_a_promoted_draft_is_the_full_job_with_the_same_seed(db: Database) -> None:
    user = db.user()
    draft = db.create(user, "video_high", draft=True, config={"sample_steps": 40}, metadata={"note": "dusk"})["job"]
    db.hear(draft["id"], "completed")
    full = db.rpc("promote_job", p_user=user, p_job=draft["id"])
    assert full["payload"]["config"] == {"sample_steps": 40, "seed": draft["seed"], "num_images": 1}
    assert (full["job"]["quality"], full["job"]["promoted_from"]) == ("high", draft["id"])
    assert (full["job"]["seed"], full["job"]["metadata"]["note"]) == (draft["seed"], "dusk")
    assert db.credits(user) == 100 - 1 - 6


def test_a_draft_is_promoted_once(db: Database) -> None:
    user = db.user()
    draft = db.job(user, draft=True)
    db.hear(draft, "completed")
    first, second = (db.rpc("promote_job", p_user=user, p_job=draft) for _ in range(2))
    assert (first["created"], second["created"]) == (True, False)
    assert first["job"]["id"] == second["job"]["id"]


ENDS = {
    "failed": lambda db, user, job: db.hear(job, "failed"),
    "never queued": lambda db, user, job: db.rpc("fail_push", p_job=job),
    "cancelled": lambda db, user, job: db.rpc("cancel_job", p_user=user, p_job=job),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_draft_whose_full_job_came_to_nothing_is_promoted_again(db: Database, end: str) -> None:
    user = db.user()
    draft = db.job(user, draft=True)
    db.hear(draft, "completed")
    first = db.rpc("promote_job", p_user=user, p_job=draft)["job"]["id"]
    ENDS[end](db, user, first)
    second, third = (db.rpc("promote_job", p_user=user, p_job=draft) for _ in range(2))
    assert (second["created"], third["created"]) == (True, False)
    assert second["job"]["id"] == third["job"]["id"] != first
    db.hear(second["job"]["id"], "completed")
    assert not db.rpc("promote_job", p_user=user, p_job=draft)["created"]
    assert (db.status(first), db.credits(user)) == ("cancelled" if end == "cancelled" else "failed", 98)


def test_only_ones_own_completed_drafts_are_promoted(db: Database) -> None:
    user = db.user()
    waiting, full = db.job(user, draft=True), db.job(user)
    with refused("PT409", "not_completed"):
        db.rpc("promote_job", p_user=user, p_job=waiting)
    with refused("PT409", "not_a_draft"):
        db.rpc("promote_job", p_user=user, p_job=full)
    with refused("PT404", "unknown_job"):
        db.rpc("promote_job", p_user=db.user(), p_job=waiting)


def test_cancelling_is_for_ones_own_open_jobs(db: Database) -> None:
    user = db.user()
    open_job, done = db.job(user), db.job(user)
    db.hear(done, "completed")
    with refused("PT404", "unknown_job"):
        db.rpc("cancel_job", p_user=db.user(), p_job=open_job)
    with refused("PT409", "ended"):
        db.rpc("cancel_job", p_user=user, p_job=done)
    for _ in range(2):
        assert db.rpc("cancel_job", p_user=user, p_job=open_job)["queue"] == "wan_queue"
    assert db.rpc("cancel_job", p_user=db.admin(), p_job=db.job(user))["cancelled"] is True


def test_calls_run_out_and_come_back(own_db: Database) -> None:
    own_db.sql("update public.tiers set calls_per_minute = 3 where tier = 'free'")
    user = own_db.user()
    answers = [own_db.rpc("take_token", p_user=user, p_action="queue-job") for _ in range(4)]
    assert [answer["allowed"] for answer in answers] == [True, True, True, False]
    assert 1 <= answers[-1]["retry_after"] <= 20
    assert own_db.rpc("take_token", p_user=user, p_action="cancel-job")["allowed"]
    own_db.sql("update public.rate_tokens set updated_at = now() - interval '21 seconds' where user_id = %s", user)
    assert own_db.rpc("take_token", p_user=user, p_action="queue-job")["allowed"]


def test_housekeeping_forgets_what_nobody_asks_for(own_db: Database) -> None:
    job = own_db.job(own_db.user())
    own_db.hear(job, "processing", webhook="old")
    own_db.sql("update public.webhook_ids set received_at = now() - interval '4 days'")
    own_db.hear(job, "failed", webhook="new")
    assert own_db.rpc("housekeeping")["webhook_ids"] == 1
    assert own_db.one("select id from public.webhook_ids") == "new"
