"""job-callback: whom it believes, what becomes of the word, and what it answers so that workers do the right thing."""

from __future__ import annotations

import json
import uuid

import pytest
from fnrig import CALLBACK, Worker, browsing, credits_of, plain

from workers.job import Delivery, Outcome
from workers.local.stack import SECRET
from workers.supabase.callback import CallbackClient


def test_a_job_begins_and_ends_with_its_picture(worker):
    assert worker.says("processing").json()["outcome"] == "applied"
    assert worker.row["status"] == "processing"
    answer = worker.says("completed", metadata={"attempt": 1, "fence": 5, "seed": 7})
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    (image,) = worker.images
    assert worker.row["status"] == "completed"
    assert (image["status"], image["image_url"]) == ("completed", worker.body("completed")["assets"][0])
    assert worker.row["image_id"] == image["id"]


def test_the_workers_own_client_is_accepted_in_both_dialects(edge, browser):
    for dialect in ("paths", "objects"):
        job = browser.queued()
        path = f"{job['user_id']}/{job['id']}/0.png"
        picture = Delivery(0, "image_fast", path, "image/png", (480, 832), 1, 7, 1000)
        client = CallbackClient(edge.supabase.url, edge.keys.service, dialect=dialect, secret=SECRET)
        verdict = client.send(Outcome(job["id"], "image_fast", "completed", (picture,)), job["user_id"])
        client.close()
        assert verdict.accepted
        assert Worker(edge, job).images[0]["image_url"] == path


def test_a_failure_is_said_to_the_user_and_costs_nothing(browser):
    before = credits_of(browser.edge, browser.user)
    worker = Worker(browser.edge, browser.queued())
    worker.says("failed", error_message="The picture could not be made.", error_type="policy")
    assert (worker.row["status"], worker.row["error_message"]) == ("failed", "The picture could not be made.")
    assert worker.images[0]["status"] == "failed"
    assert credits_of(browser.edge, browser.user) == before


def test_a_repeated_message_is_heard_once(worker):
    first = worker.says("completed", message="the same")
    (image,) = worker.images
    second = worker.says("completed", message="the same", assets=[])
    assert [answer.json()["outcome"] for answer in (first, second)] == ["applied", "duplicate"]
    assert second.json()["skipped"] is True
    assert worker.images == [image]


def test_the_end_is_said_once_however_often_it_comes(browser):
    before = credits_of(browser.edge, browser.user)
    worker = Worker(browser.edge, browser.queued())
    answers = [worker.says("completed") for _ in range(3)]
    assert [answer.json()["outcome"] for answer in answers] == ["applied", "skipped", "skipped"]
    assert {answer.status_code for answer in answers} == {200}
    assert credits_of(browser.edge, browser.user) == before - 1


def test_what_comes_out_of_order_does_not_open_a_job_again(worker):
    worker.says("completed")
    for late in ("processing", "failed"):
        assert worker.says(late).json()["outcome"] == "skipped"
    assert worker.row["status"] == "completed"


def test_a_worker_that_lost_its_lease_is_refused(worker):
    worker.says("processing", metadata={"fence": 20})
    stale = worker.says("completed", metadata={"fence": 19})
    assert (stale.status_code, stale.json()["code"]) == (409, "stale_fence")
    assert worker.row["status"] == "processing"
    assert worker.says("completed", metadata={"fence": 20}).json()["outcome"] == "applied"


def test_the_row_need_not_be_linked_yet(worker):
    worker.edge.sql(f"update public.jobs set image_id = null where id = '{worker.job['id']}'")
    worker.edge.sql(f"delete from public.images where job_id = '{worker.job['id']}'")
    assert worker.says("completed").json()["outcome"] == "applied"
    (image,) = worker.images
    assert image["status"] == "completed"
    assert worker.row["image_id"] == image["id"]


def test_a_job_nobody_knows_is_soon_given_up(edge, browser):
    stranger = Worker(edge, {"id": str(uuid.uuid4()), "user_id": browser.user})
    assert stranger.says("completed").status_code == 404
    client = CallbackClient(edge.supabase.url, edge.keys.service, secret=SECRET)
    verdict = client.send(Outcome(stranger.job["id"], "image_fast", "failed"), browser.user)
    client.close()
    assert (verdict.meaning, verdict.tries) == ("gone", 4)


def test_another_users_folder_is_no_result(worker):
    with browsing(worker.edge) as other:
        foreign = [f"{other.user}/{worker.job['id']}/0.png", f"{worker.job['user_id']}/../{other.user}/x/0.png"]
    for path in foreign:
        answer = worker.says("completed", assets=[path])
        assert (answer.status_code, answer.json()["field"]) == (400, "assets")
    assert worker.row["status"] == "queued"


def test_a_body_cannot_name_another_user(worker):
    with browsing(worker.edge) as other:
        worker.says("completed", user_id=other.user)
        assert not worker.edge.rows("images", user_id=other.user)
    assert worker.row["user_id"] == worker.job["user_id"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"job_id": ""}, "job_id is required"),
        ({"status": "done"}, "status must be"),
        ({"status": "completed", "assets": []}, "assets are missing"),
        ({"status": "completed", "assets": "0.png"}, "assets must be a list"),
    ],
)
def test_a_word_that_makes_no_sense_is_refused_with_a_sentence(worker, fields, says):
    content = json.dumps(worker.body("failed") | fields).encode()
    answer = worker.sends(content, plain(content))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(says)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null"])
def test_signed_garbage_is_refused_all_the_same(edge, worker, content):
    assert worker.sends(content, plain(content)).status_code == 400


def test_a_body_that_is_too_large_is_not_read(worker):
    content = json.dumps(worker.body("failed", error_message="a" * 300_000)).encode()
    assert worker.sends(content, plain(content)).status_code == 413


def test_only_posts_are_callbacks(edge):
    assert edge.http.get(CALLBACK).status_code == 405


def test_while_the_database_is_away_workers_are_told_to_come_back(worker):
    worker.edge.faults.add("error", path="/rest/v1/rpc/receive_callback", status=500, count=1)
    refused = worker.says("completed")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert worker.says("completed").json()["outcome"] == "applied"


def test_what_was_made_for_a_cancelled_job_is_removed(browser):
    edge, job = browser.edge, browser.queued()
    worker, path = Worker(browser.edge, job), f"{browser.user}/{job['id']}/0.png"
    png = {"Content-Type": "image/png"}
    edge.http.post(f"/storage/v1/object/image_fast/{path}", content=b"a picture", headers=png).raise_for_status()
    assert edge.file("image_fast", path).exists()
    browser.call("cancel-job", {"jobId": job["id"]})
    assert worker.says("completed").json() | {"message": ""} == {
        "success": True,
        "job_id": job["id"],
        "status": "cancelled",
        "outcome": "skipped",
        "skipped": True,
        "message": "",
    }
    assert not edge.file("image_fast", path).exists()
    assert browser.signs("image_fast", path).status_code == 400
