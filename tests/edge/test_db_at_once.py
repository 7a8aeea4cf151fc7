"""Many connections at the same moment: what is counted stays counted, what is paid is paid once, an end is one end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import psycopg
import pytest
from dbrig import PROMPT, Database, call, run

Task = Callable[[Any], Any]


def at_once(db: Database, tasks: Sequence[Task]) -> list[Any]:
    """What each task answers, or the SQLSTATE it was refused with; all begin together, each on a connection."""
    barrier = Barrier(len(tasks))

    def answer(task: Task) -> Any:
        try:
            with db.connect() as connection, connection.transaction():
                run(connection, "set local role service_role")
                barrier.wait(30)
                return task(connection)
        except psycopg.Error as error:
            return error.sqlstate

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(answer, tasks))


def create(user: str, **wish: Any) -> Task:
    request = {"job_type": "image_fast", "prompt": PROMPT, **wish}
    return lambda connection: call(connection, "create_job", p_user=user, p_request=request)


def hear(db: Database, job: str, status: str, webhook: str | None = None, **metadata: Any) -> Task:
    body = {"job_id": job, "status": status, "assets": db.assets(job), "metadata": metadata}
    return lambda connection: call(connection, "receive_callback", p_body=body, p_webhook_id=webhook)


def cancel(user: str, job: str) -> Task:
    return lambda connection: call(connection, "cancel_job", p_user=user, p_job=job)


def balanced(db: Database, user: str) -> bool:
    return bool(db.one("select sum(amount) from public.credit_ledger where user_id = %s", user) == db.credits(user))


def test_twenty_creates_at_once_do_not_pass_the_cap(db: Database) -> None:
    user = db.user()
    answers = at_once(db, [create(user)] * 20)
    assert answers.count("PT429") == 15
    assert db.one("select count(*) from public.jobs where user_id = %s", user) == 5
    assert db.credits(user) == 95


def test_twenty_creates_at_once_do_not_overdraw(db: Database) -> None:
    user = db.user(tier="pro", credits=7)
    answers = at_once(db, [create(user, job_type="video_fast")] * 20)
    assert (answers.count("PT402"), db.credits(user)) == (18, 1)
    assert balanced(db, user)


def test_one_key_sent_ten_times_at_once_is_one_job(db: Database) -> None:
    user = db.user()
    answers = at_once(db, [create(user, idempotency_key="again")] * 10)
    assert Counter(answer["created"] for answer in answers) == {True: 1, False: 9}
    assert len({answer["job"]["id"] for answer in answers}) == 1
    assert db.credits(user) == 99


def test_a_draft_promoted_ten_times_at_once_is_one_job(db: Database) -> None:
    user = db.user()
    draft = db.job(user, draft=True)
    db.hear(draft, "completed")
    answers = at_once(db, [lambda c: call(c, "promote_job", p_user=user, p_job=draft)] * 10)
    assert [answer["created"] for answer in answers].count(True) == 1
    assert db.credits(user) == 98


@pytest.mark.parametrize("webhook", [None, "same"])
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_the_same_callback_at_once_is_applied_once(db: Database, status: str, webhook: str | None) -> None:
    user = db.user()
    job = db.job(user)
    sent = webhook and f"{job}.{webhook}"
    answers = at_once(db, [hear(db, job, status, sent)] * 6)
    assert [answer["outcome"] for answer in answers].count("applied") == 1
    assert db.credits(user) == (99 if status == "completed" else 100)
    assert balanced(db, user)


def test_completed_and_failed_at_once_are_one_end(db: Database) -> None:
    for _ in range(5):
        user = db.user()
        job = db.job(user)
        at_once(db, [hear(db, job, "completed"), hear(db, job, "failed")])
        status = db.status(job)
        assert db.credits(user) == (99 if status == "completed" else 100)
        assert {image["status"] for image in db.rows("images", job)} == {status}


def test_a_callback_and_a_cancellation_at_once_are_one_end(db: Database) -> None:
    for _ in range(5):
        user = db.user()
        job = db.job(user)
        heard, cancelled = at_once(db, [hear(db, job, "completed"), cancel(user, job)])
        if db.status(job) == "cancelled":
            assert (heard["outcome"], db.credits(user)) == ("skipped", 100)
            assert len(heard["discard"]) == 1
        else:
            assert (heard["outcome"], cancelled, db.credits(user)) == ("applied", "PT409", 99)
        assert balanced(db, user)


def test_of_two_attempts_at_once_the_later_has_the_last_word(db: Database) -> None:
    for _ in range(5):
        job = db.job(db.user())
        db.hear(job, "processing", metadata={"fence": 2})
        early, late = at_once(db, [hear(db, job, "completed", fence=1), hear(db, job, "failed", fence=2)])
        assert (early, late["outcome"], db.status(job)) == ("PT409", "applied", "failed")


def test_a_refused_push_and_a_worker_at_once_are_one_end(db: Database) -> None:
    user = db.user()
    job = db.job(user)
    at_once(db, [partial(call, name="fail_push", p_job=job), hear(db, job, "completed")])
    assert db.credits(user) == (99 if db.status(job) == "completed" else 100)
    assert balanced(db, user)


def test_calls_at_once_take_no_more_tokens_than_there_are(own_db: Database) -> None:
    own_db.sql("update public.tiers set calls_per_minute = 4 where tier = 'free'")
    user = own_db.user()
    answers = at_once(own_db, [lambda c: call(c, "take_token", p_user=user, p_action="queue-job")] * 12)
    assert [answer["allowed"] for answer in answers].count(True) == 4


def test_creating_ending_and_cancelling_at_once_never_lock_each_other_for_good(db: Database) -> None:
    user = db.user(tier="pro")
    jobs = [db.job(user) for _ in range(6)]
    drafts = [db.job(user, draft=True) for _ in range(2)]
    for draft in drafts:
        db.hear(draft, "completed")
    tasks = [
        create(user),
        create(user),
        *(hear(db, job, "failed") for job in jobs),
        *(cancel(user, job) for job in jobs),
    ]
    tasks += [partial(call, name="promote_job", p_user=user, p_job=draft) for draft in drafts]
    answers = at_once(db, tasks)
    assert not {"40P01", "40001", "55P03"} & {answer for answer in answers if isinstance(answer, str)}
    assert balanced(db, user)
