"""cancel-job and job-progress: a user's own jobs, and nobody else's."""

from __future__ import annotations

import json
import uuid

import pytest
from fnrig import PROMPT, Worker, browsing, command, credits_of


def test_a_waiting_job_is_taken_back_and_its_credits_return(browser):
    before = credits_of(browser.edge, browser.user)
    job = browser.queued("video_high")
    answer = browser.call("cancel-job", {"jobId": job["id"]})
    assert answer.json() | {"message": ""} == {
        "success": True,
        "job_id": job["id"],
        "cancelled": True,
        "status": "cancelled",
        "message": "",
    }
    assert Worker(browser.edge, job).row["status"] == "cancelled"
    assert credits_of(browser.edge, browser.user) == before


def test_workers_find_the_mark_where_they_look_for_it(browser):
    job = browser.queued()
    browser.call("cancel-job", {"job_id": job["id"]})
    assert command(browser.edge, "GET", f"cancel:{job['id']}") == "1"
    assert 86_000 < command(browser.edge, "TTL", f"cancel:{job['id']}") <= 86_400


def test_taking_back_twice_is_taking_back(browser):
    job = browser.queued()
    answers = [browser.call("cancel-job", {"job_id": job["id"]}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_job_that_has_ended_stays_as_it_is(browser):
    job = browser.queued()
    Worker(browser.edge, job).says("completed")
    answer = browser.call("cancel-job", {"job_id": job["id"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "ended")
    assert command(browser.edge, "EXISTS", f"cancel:{job['id']}") == 0


def test_without_the_queue_the_job_is_cancelled_all_the_same(browser):
    job = browser.queued()
    browser.edge.gateway_faults.add("error", path="/pipeline", status=500)
    assert browser.call("cancel-job", {"job_id": job["id"]}).status_code == 200
    assert Worker(browser.edge, job).row["status"] == "cancelled"


@pytest.mark.parametrize("function", ["cancel-job", "job-progress"])
def test_a_strangers_job_is_an_unknown_one(browser, function):
    job = browser.queued()
    with browsing(browser.edge) as other:
        named = [other.call(function, {"job_id": id_}) for id_ in (job["id"], str(uuid.uuid4()))]
    assert [answer.status_code for answer in named] == [404, 404]
    assert named[0].json() == named[1].json()
    assert Worker(browser.edge, job).row["status"] == "queued"
    assert command(browser.edge, "EXISTS", f"cancel:{job['id']}") == 0


@pytest.mark.parametrize("function", ["cancel-job", "job-progress", "enhance-prompt"])
def test_without_a_session_there_is_no_answer(edge, function):
    answer = edge.http.post(f"/functions/v1/{function}", json={"job_id": str(uuid.uuid4()), "prompt": "a red bicycle"})
    assert answer.status_code == 401


@pytest.mark.parametrize("job_id", [None, "", 7, "*", "../x"])
def test_what_names_no_job_is_refused(browser, job_id):
    assert browser.call("cancel-job", {"job_id": job_id}).status_code in (400, 404)


def test_progress_says_the_place_while_a_job_waits(browser):
    job = browser.queued()
    said = browser.http.get("/functions/v1/job-progress", params={"job_id": job["id"]}).json()
    assert said["job"]["status"] == "queued"
    assert said["queue"]["position"] >= 1
    assert said["progress"] is None


def test_progress_says_what_the_worker_says_while_a_job_is_made(browser):
    job = browser.queued()
    Worker(browser.edge, job).says("processing")
    assert browser.call("job-progress", {"job_id": job["id"]}).json()["progress"] is None
    command(browser.edge, "SET", f"progress:{job['id']}", json.dumps({"phase": "denoise", "percent": 40}), "EX", 60)
    said = browser.call("job-progress", {"job_id": job["id"]}).json()
    assert said["progress"] == {"phase": "denoise", "percent": 40}
    assert said["queue"] is None


def test_a_users_progress_does_not_need_the_queue(browser):
    job = browser.queued()
    Worker(browser.edge, job).says("processing")
    browser.edge.gateway_faults.add("error", path="/pipeline", status=503)
    said = browser.call("job-progress", {"job_id": job["id"]}).json()
    assert (said["job"]["status"], said["progress"]) == ("processing", None)


def test_a_prompt_for_which_nobody_has_time_comes_back_as_it_was(browser):
    answer = browser.call("enhance-prompt", {"prompt": "a red bicycle", "media": "video"}).json()
    (job,) = browser.edge.rows("jobs", user_id=browser.user)
    assert (answer["enhanced"], answer["prompt"], answer["reason"]) == (False, "a red bicycle", "time")
    assert (job["job_type"], job["status"]) == ("enhance_prompt", "cancelled")
    assert command(browser.edge, "EXISTS", f"cancel:{job['id']}") == 1


def test_a_prompt_that_the_queue_does_not_take_comes_back_as_it_was(browser):
    browser.edge.gateway_faults.add("error", path="/pipeline", status=500, count=1)
    answer = browser.call("enhance-prompt", {"prompt": PROMPT}).json()
    assert (answer["enhanced"], answer["prompt"], answer["reason"]) == (False, PROMPT, "queue")
    assert browser.edge.job(answer["job_id"])["status"] == "failed"


@pytest.mark.parametrize(
    "prompt", [None, "", "  ", 7, "a" * 4001], ids=["absent", "empty", "blank", "a number", "too long"]
)
def test_there_must_be_a_prompt_to_be_put_into_better_words(browser, prompt):
    answer = browser.call("enhance-prompt", {"prompt": prompt})
    assert (answer.status_code, answer.json()["field"]) == (400, "prompt")
