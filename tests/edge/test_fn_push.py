"""queue-job's push: what becomes of a job whose message does not get through, and what is said of it."""

from __future__ import annotations

import httpx
import pytest
from fnrig import PROMPT, Browser, command, credits_of, message
from receiver import Answer, running_receiver


def test_a_push_that_is_refused_fails_the_job_and_returns_its_credits(browser):
    edge, before = browser.edge, credits_of(browser.edge, browser.user)
    edge.gateway_faults.add("error", path="/pipeline", status=500, count=1)
    answer = browser.ask()
    (row,) = edge.rows("jobs", user_id=browser.user)
    assert (answer.status_code, answer.json()["code"]) == (503, "queue")
    assert (row["status"], row["error_type"]) == ("failed", "queue")
    assert credits_of(edge, browser.user) == before


def test_who_asks_again_after_a_refused_push_gets_another_job(browser):
    key = {"Idempotency-Key": "once"}
    body = {"jobType": "image_fast", "prompt": PROMPT}
    browser.edge.gateway_faults.add("error", path="/pipeline", status=500, count=1)
    assert browser.call("queue-job", body, **key).status_code == 503
    again = browser.call("queue-job", body, **key).json()
    assert (again["created"], again["job"]["status"]) == (True, "queued")
    assert message(browser.edge, again["jobId"]) is not None
    assert browser.call("queue-job", body, **key).json()["jobId"] == again["jobId"]


def test_a_push_into_nowhere_fails_the_job(browser):
    browser.edge.gateway.stop()
    try:
        answer = browser.ask()
    finally:
        browser.edge.gateway.start()
    (row,) = browser.edge.rows("jobs", user_id=browser.user)
    assert (answer.status_code, row["status"]) == (503, "failed")


def test_a_push_of_unknown_fate_leaves_the_job_to_the_reconciler(browser):
    browser.edge.gateway_faults.add("lost_reply", path="/pipeline", count=2)
    answer = browser.ask()
    assert answer.status_code == 200
    assert answer.json()["job"]["status"] == "queued"
    assert message(browser.edge, answer.json()["job"]["id"]) is not None


def test_a_queue_that_answers_too_late_may_have_the_job(browser):
    fault = browser.edge.gateway_faults.add("hang", path="/pipeline", seconds=6)
    answer = browser.ask()
    assert (answer.status_code, answer.json()["job"]["status"]) == (200, "queued")
    assert fault.struck == 1


def test_one_broken_connection_is_nobodys_business(browser):
    fault = browser.edge.gateway_faults.add("lost_request", path="/pipeline", count=1)
    row = browser.queued()
    assert fault.struck == 1
    assert message(browser.edge, row["id"]) is not None


def test_while_the_database_is_away_nothing_is_pushed(browser):
    before = command(browser.edge, "LLEN", "wan_queue")
    browser.edge.faults.add("error", path="/rest/v1/rpc/create_job", status=502, html=True)
    answer = browser.ask()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert command(browser.edge, "LLEN", "wan_queue") == before


@pytest.mark.parametrize(
    ("service", "status"),
    [("SUPABASE_URL", 503), ("UPSTASH_REDIS_REST_URL", 200)],  # what became of a push that was sent on is not known
    ids=["database", "queue"],
)
def test_keys_follow_no_redirect(browser, service, status):
    headers = {"Authorization": f"Bearer {browser.edge.keys.user_token(browser.user)}"}
    body = {"jobType": "image_fast", "prompt": PROMPT}
    with running_receiver() as asked, running_receiver() as elsewhere:
        asked.answers = [Answer(307, headers={"Location": elsewhere.url})] * 2
        with browser.edge.function("queue-job", **{service: asked.url}) as address:
            answer = httpx.post(address, json=body, headers=headers, timeout=60, verify=False)
        assert (answer.status_code, elsewhere.requests) == (status, [])
        assert asked.requests[0].headers["authorization" if service.startswith("UPSTASH") else "apikey"]


def test_prompts_do_not_reach_the_functions_log(browser: Browser):
    browser.ask(prompt="a marigold in a blue pot", config={"seed": "x"})
    browser.edge.gateway_faults.add("error", path="/pipeline", status=500, count=1)
    browser.ask(prompt="a marigold in a blue pot")
    assert '"event":"push"' in browser.edge.log
    assert "marigold" not in browser.edge.log
