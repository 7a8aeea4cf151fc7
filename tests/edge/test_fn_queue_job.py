"""queue-job: what becomes of a user's wish, and what does not."""

from __future__ import annotations

import json
import threading
import uuid

import httpx
import pytest
from fnrig import PROMPT, browsing, command, credits_of, message

from workers import payload
from workers.making.maker import waited
from workers.resolve import resolve
from workers.tables import load_presets

PRESETS = load_presets()
OTHER = "99999999-9999-4999-8999-999999999999"


@pytest.mark.parametrize("job_type", PRESETS)
def test_every_type_is_queued_as_the_workers_read_it(browser, job_type):
    preset = PRESETS[job_type]
    row = browser.queued(job_type, negativePrompt="blurry", config={"seed": 7, "num_images": preset.outputs[0]})
    text = json.dumps(message(browser.edge, row["id"], f"{preset.kind}_queue"))
    job = payload.parse(text)
    assert (job.id, job.type, job.user_id) == (row["id"], job_type, browser.user)
    assert (job.prompt, job.negative_prompt) == (PROMPT, "blurry")
    params = resolve(job, preset)
    assert params.seeds[0] == 7
    assert len(params.seeds) == preset.outputs[0]
    assert not params.adjusted
    assert waited(job) < 60


def test_the_answer_says_when_the_job_may_be_done(browser):
    first, second = browser.ask("video_fast").json(), browser.ask("video_fast").json()
    assert first["success"] is True
    assert first["message"] == "Job queued successfully"
    assert second["position"] > first["position"] >= 1
    assert second["estimatedSeconds"] > first["estimatedSeconds"] >= 180
    assert second["queueLength"] >= 2


def test_new_jobs_are_pushed_where_july_pushed_them_and_announced(browser):
    edge, heard, listening = browser.edge, [], threading.Event()

    def listen() -> None:
        headers = {"Authorization": f"Bearer {edge.env['UPSTASH_REDIS_REST_TOKEN']}", "Accept": "text/event-stream"}
        url = f"{edge.gateway.url}/subscribe/wake:wan_queue"
        with httpx.stream("POST", url, headers=headers, timeout=30, verify=False) as lines:
            for line in lines.iter_lines():
                listening.set()
                if line.startswith("data: message"):
                    heard.append(line)
                    break

    listener = threading.Thread(target=listen)
    listener.start()
    assert listening.wait(60)
    row = browser.queued()
    listener.join(60)
    assert heard == ["data: message,wake:wan_queue,1"]
    assert json.loads(command(edge, "LINDEX", "wan_queue", 0))["id"] == row["id"]


def test_the_newest_clients_form_is_understood(browser):
    body = {"job_type": "sdxl_image_fast", "num_images": 3, "seed": 0, "content_type": "sfw", "format": "png"}
    answer = browser.call("queue-job", {**body, "prompt": PROMPT, "resolution": "1024x576"})
    job = payload.parse(json.dumps(message(browser.edge, answer.json()["job"]["id"], "sdxl_queue")))
    params = resolve(job, PRESETS["sdxl_image_fast"])
    assert (params.seeds, params.width, params.height) == ((0, 1, 2), 1024, 576)


def test_a_client_sets_nothing_that_the_server_decides(browser):
    planted = {"priority": 99, "consent_id": str(uuid.uuid4()), "tier": "pro", "bucket": "video_high", "user_id": OTHER}
    row = browser.queued(id=OTHER, status="completed", credits=0, **planted, metadata={**planted, "rating": "adult"})
    pushed = message(browser.edge, row["id"])
    assert row["id"] != OTHER
    assert (row["status"], row["user_id"]) == ("queued", browser.user)
    assert (pushed["user_id"], pushed["rating"], pushed["priority"]) == (browser.user, "sfw", 20)
    assert "consent_id" not in pushed
    assert pushed["bucket"] == "image_fast"
    assert not planted.keys() & (pushed["metadata"].keys() - {"bucket"})
    assert row["credits"] == 1


def test_an_adult_wish_above_the_ceiling_is_refused_however_it_is_spelled(browser):
    for wish in ({"rating": "adult"}, {"content_type": "nsfw"}, {"contentType": "nsfw"}):
        answer = browser.ask(**wish)
        assert (answer.status_code, answer.json()["code"]) == (403, "rating")


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"jobType": None}, "job_type", "name a job type"),
        ({"jobType": "image_slow"}, "job_type", "must be one of"),
        ({"jobType": ["image_fast"]}, "job_type", "must be text"),
        ({"prompt": 7}, "prompt", "must be text"),
        ({"prompt": "a" * 4001}, "prompt", "at most 4,000"),
        ({"negative_prompt": "a" * 2001}, "negative_prompt", "at most 2,000"),
        ({"prompt": "a \x00 bicycle"}, "prompt", "not valid text"),
        ({"config": []}, "config", "must be an object"),
        ({"metadata": "none"}, "metadata", "must be an object"),
        ({"config": {"seed": 1e300}}, "config", "out of range"),
        ({"config": {"seed": "7"}}, "seed", "must be a number"),
        ({"jobType": "sdxl_image_fast", "config": {"num_images": 2}}, "num_images", "1, 3, 6"),
        ({"image_id": "../other"}, "image_id", "must be a UUID"),
        ({"rating": "family"}, "rating", "must be one of"),
        ({"draft": "yes"}, "draft", "true or false"),
        ({"promote": 7}, "promote", "must be a UUID"),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_right(browser, fields, field, says):
    answer = browser.ask(**fields)
    assert answer.status_code == 400
    assert answer.json()["field"] == field
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b"\xff{}", b"[" * 60_000, b'{"a":' * 50 + b"1" + b"}" * 50]
)
def test_garbage_is_refused_with_a_sentence(browser, body):
    answer = browser.http.post("/functions/v1/queue-job", content=body)
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    assert answer.json()["error"].endswith(".")


def test_half_a_character_is_refused(browser):
    answer = browser.http.post("/functions/v1/queue-job", content=b'{"jobType":"image_fast","prompt":"\\ud800"}')
    assert (answer.status_code, answer.json()["field"]) == (400, "prompt")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_not_read(browser, chunked):
    body = json.dumps({"jobType": "image_fast", "prompt": PROMPT, "metadata": {"note": "a" * 70_000}}).encode()
    answer = browser.http.post("/functions/v1/queue-job", content=iter([body]) if chunked else body)
    assert answer.status_code == 413


def test_browsers_of_any_origin_may_ask_and_other_methods_may_not(browser):
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    asked = httpx.options(f"{browser.edge.supabase.url}/functions/v1/queue-job", headers=headers, verify=False)
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == "*"
    assert "authorization" in asked.headers["access-control-allow-headers"]
    refused = browser.http.get("/functions/v1/queue-job")
    assert refused.status_code == 405
    assert refused.headers["access-control-allow-origin"] == "*"


def test_the_same_idempotency_key_is_the_same_job_pushed_once(browser):
    key = {"Idempotency-Key": "order-7"}
    body = {"jobType": "image_fast", "prompt": PROMPT}
    first, second = (browser.call("queue-job", body, **key).json() for _ in range(2))
    assert first["job"]["id"] == second["job"]["id"]
    assert (first["created"], second["created"]) == (True, False)
    waiting = [json.loads(text)["id"] for text in command(browser.edge, "LRANGE", "wan_queue", 0, -1)]
    assert waiting.count(first["job"]["id"]) == 1
    assert browser.call("queue-job", {**body, "jobType": "video_fast"}, **key).status_code == 409


def test_another_users_key_is_another_job(browser):
    with browsing(browser.edge) as other:
        body, key = {"jobType": "image_fast", "prompt": PROMPT}, {"Idempotency-Key": "order-8"}
        mine, theirs = (each.call("queue-job", body, **key).json()["job"] for each in (browser, other))
    assert mine["id"] != theirs["id"]


def test_a_user_has_only_so_many_jobs_waiting(edge):
    with browsing(edge, tier="free") as browser:
        answers = [browser.ask() for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[-1].json()["code"] == "waiting"


def test_a_user_who_asks_too_often_is_told_when_to_come_back(browser):
    assert browser.ask("no such type").status_code == 400
    spent = "tokens = 0, updated_at = now() + interval '1 hour'"
    browser.edge.sql(f"update public.rate_tokens set {spent} where user_id = '{browser.user}'")
    answer = browser.ask()
    assert (answer.status_code, answer.json()["code"]) == (429, "rate")
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_a_job_costs_credits_and_nobody_goes_below_zero(edge):
    with browsing(edge, credits=-98) as browser:
        before = credits_of(edge, browser.user)
        assert browser.ask("video_high").status_code == 402
        assert credits_of(edge, browser.user) == before


def test_a_draft_is_made_in_full_with_the_same_seed(browser):
    edge = browser.edge
    draft = browser.queued("video_fast", draft=True, config={"seed": 41})
    early = browser.call("queue-job", {"promote": draft["id"]})
    assert (early.status_code, early.json()["code"]) == (409, "not_completed")
    edge.sql(f"update public.jobs set status = 'processing' where id = '{draft['id']}'")
    edge.rpc("receive_callback", p_body=completed(draft), p_webhook_id=None)
    full = browser.call("queue-job", {"promote": draft["id"]}).json()
    again = browser.call("queue-job", {"promote": draft["id"]}).json()
    pushed = message(edge, full["job"]["id"])
    assert pushed["config"]["seed"] == 41
    assert "sample_steps" not in pushed["config"]
    assert again["job"]["id"] == full["job"]["id"]
    assert again["created"] is False
    edge.rpc("receive_callback", p_body={"job_id": full["job"]["id"], "status": "failed"}, p_webhook_id=None)
    anew = browser.call("queue-job", {"promote": draft["id"]}).json()
    assert anew["created"] is True
    assert message(edge, anew["job"]["id"])["config"]["seed"] == 41


def test_a_draft_of_somebody_else_is_unknown(browser):
    draft = browser.queued("video_fast", draft=True)
    with browsing(browser.edge) as other:
        assert other.call("queue-job", {"promote": draft["id"]}).status_code == 404


def completed(job: dict) -> dict:
    folder = f"{job['user_id']}/{job['id']}"
    return {"job_id": job["id"], "status": "completed", "assets": [f"{folder}/0.mp4"]}
