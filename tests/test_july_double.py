"""The double behaves as the July deployment does: keys, callbacks, tables."""

from __future__ import annotations

import httpx
import pytest
from double import OTHER, USER, call_back, paths
from support import get, post, wait_until

from workers.local.redis import RedisServer
from workers.local.stack import LocalStack

# Keys


def test_a_legacy_key_is_a_bearer_token(stack: LocalStack) -> None:
    key = stack.double.keys.service
    assert key.startswith("eyJ")
    address = f"{stack.supabase.url}/storage/v1/bucket"
    assert get(address, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert get(address, headers={"apikey": key}).status_code == 401


def test_a_new_key_goes_in_apikey_and_fails_as_bearer(redis_server: RedisServer) -> None:
    with LocalStack(key_kind="secret", redis=redis_server) as stack:
        key, address = stack.double.keys.service, f"{stack.supabase.url}/storage/v1/bucket"
        assert key.startswith("sb_secret_")
        assert get(address, headers={"apikey": key}).status_code == 200
        assert get(address, headers={"apikey": key, "Authorization": f"Bearer {key}"}).status_code == 401
        assert stack.submit("sdxl_image_fast", "a red bicycle")


@pytest.mark.parametrize("bearer", ["", "wrong", "eyJ.eyJ.eyJ", "sb_secret_wrong"])
@pytest.mark.parametrize(
    "path", ["/storage/v1/object/image_fast/a/b.png", "/functions/v1/job-callback", "/functions/v1/queue-job"]
)
def test_a_wrong_key_is_refused_with_401(stack: LocalStack, path: str, bearer: str) -> None:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    assert post(stack.supabase.url + path, json={}, headers=headers).status_code == 401


# job-callback in the dialect `paths`


def test_a_completed_batch_fills_its_rows_by_position(stack: LocalStack, api: httpx.Client) -> None:
    job_id = stack.submit("sdxl_image_fast", "a red bicycle", num_images=3)
    assert call_back(api, job_id, "completed", assets=paths(job_id, 3)).status_code == 200
    rows = stack.double.rows("images", job_id=job_id)
    assert [(row["image_index"], row["status"], row["image_url"]) for row in rows] == [
        (index, "completed", path) for index, path in enumerate(paths(job_id, 3))
    ]
    assert stack.job(job_id)["status"] == "completed"


def test_a_completed_clip_fills_its_row(stack: LocalStack, api: httpx.Client) -> None:
    job_id = stack.submit("video7b_fast_enhanced", "a red bicycle")
    call_back(api, job_id, "completed", assets=paths(job_id, extension="mp4"), enhancedPrompt="a shiny red bicycle")
    (row,) = stack.double.rows("videos", job_id=job_id)
    assert (row["status"], row["video_url"]) == ("completed", f"{USER}/{job_id}/0.mp4")
    assert row["enhanced_prompt"] == "a shiny red bicycle"


def test_a_single_image_stays_queued_until_it_is_patched(stack: LocalStack, api: httpx.Client) -> None:
    job_id = stack.submit("image_fast", "a red bicycle")
    assert call_back(api, job_id, "completed", assets=paths(job_id)).status_code == 200
    assert stack.double.rows("images", job_id=job_id)[0]["status"] == "queued"
    unnumbered = {"job_id": f"eq.{job_id}", "image_index": "is.null"}
    values = {"status": "completed", "image_url": paths(job_id)[0]}
    assert api.patch("/rest/v1/images", params=unnumbered, json=values).status_code == 204
    assert stack.double.rows("images", job_id=job_id)[0]["image_url"] == paths(job_id)[0]


@pytest.mark.parametrize(("job_type", "missing"), [("sdxl_image_fast", "image_id"), ("video_fast", "video_id")])
def test_completed_is_refused_until_the_browser_linked_the_row(
    stack: LocalStack, api: httpx.Client, job_type: str, missing: str
) -> None:
    stack.double.switches.link_after = None
    job_id = stack.submit(job_type, "a red bicycle")
    refused = call_back(api, job_id, "completed", assets=paths(job_id))
    assert refused.status_code == 400
    assert f"associated {missing}" in refused.json()["error"]
    assert call_back(api, job_id, "processing").status_code == 200
    stack.double.link(job_id)
    assert call_back(api, job_id, "completed", assets=paths(job_id)).status_code == 200


def test_the_link_may_come_by_itself_after_a_while(stack: LocalStack, api: httpx.Client) -> None:
    stack.double.switches.link_after = 0.05
    job_id = stack.submit("video_fast", "a red bicycle")
    assert call_back(api, job_id, "completed", assets=paths(job_id)).status_code == 400
    wait_until(lambda: call_back(api, job_id, "completed", assets=paths(job_id)).status_code == 200)


def test_the_switches_are_turned_over_http_too(stack: LocalStack) -> None:
    address = f"{stack.supabase.url}/_double/switches"
    assert get(address).json() == {"link_after": 0.0, "rows_after": 0.0}
    assert post(address, json={"link_after": None}).json()["link_after"] is None
    assert post(address, json={"colour": 1}).status_code == 400
    job_id = stack.submit("video_fast", "a red bicycle")
    assert stack.job(job_id)["video_id"] is None
    post(f"{stack.supabase.url}/_double/link/{job_id}")
    assert stack.job(job_id)["video_id"] is not None


def test_rows_of_a_batch_may_appear_late_and_a_repeat_fills_them(stack: LocalStack, api: httpx.Client) -> None:
    stack.double.switches.rows_after = 0.05
    job_id = stack.submit("sdxl_image_fast", "a red bicycle", num_images=3)
    assert call_back(api, job_id, "completed", assets=paths(job_id, 3)).status_code == 200
    wait_until(lambda: len(stack.double.rows("images", job_id=job_id)) == 3)
    assert [row["status"] for row in stack.double.rows("images", job_id=job_id)] == ["completed", "queued", "queued"]
    call_back(api, job_id, "completed", assets=paths(job_id, 3))
    assert {row["status"] for row in stack.double.rows("images", job_id=job_id)} == {"completed"}


def test_nothing_guards_a_completed_job(stack: LocalStack, api: httpx.Client) -> None:
    job_id = stack.submit("video_fast", "a red bicycle")
    call_back(api, job_id, "completed", assets=paths(job_id))
    assert call_back(api, job_id, "processing").status_code == 200
    assert stack.job(job_id)["status"] == "processing"


def test_failed_ends_the_job_and_its_rows_with_a_sentence(stack: LocalStack, api: httpx.Client) -> None:
    job_id = stack.submit("video_fast", "a red bicycle")
    call_back(api, job_id, "failed", error_message="The clip could not be made.")
    assert stack.job(job_id)["error_message"] == "The clip could not be made."
    assert stack.double.rows("videos", job_id=job_id)[0]["status"] == "failed"


@pytest.mark.parametrize("dialect_name", ["jobId", "id"])
def test_a_callback_without_job_id_is_refused(api: httpx.Client, dialect_name: str) -> None:
    answer = api.post("/functions/v1/job-callback", json={dialect_name: "b91f", "status": "completed"})
    assert (answer.status_code, answer.json()["error"]) == (400, "job_id is required")


def test_a_callback_for_a_job_that_is_gone_is_refused(stack: LocalStack, api: httpx.Client) -> None:
    job_id = stack.submit("video_fast", "a red bicycle")
    stack.double.forget(job_id)
    answer = call_back(api, job_id, "completed", assets=paths(job_id))
    assert answer.status_code == 400
    assert answer.json()["error"] == "JSON object requested, multiple (or no) rows returned"


def test_assets_that_are_objects_are_refused(stack: LocalStack, api: httpx.Client) -> None:
    job_id = stack.submit("video_fast", "a red bicycle")
    assert call_back(api, job_id, "completed", assets=[{"url": "a.mp4"}]).status_code == 400
    assert stack.job(job_id)["status"] == "queued"


def test_every_callback_is_kept_with_its_answer(stack: LocalStack, api: httpx.Client) -> None:
    job_id = stack.submit("video_fast", "a red bicycle")
    call_back(api, job_id, "processing")
    call_back(api, job_id, "completed", assets=[{}])
    seen = stack.double.callbacks(job_id)
    assert [(callback.status, callback.answer) for callback in seen] == [("processing", 200), ("completed", 400)]
    assert seen[0].headers["content-type"] == "application/json"


def test_callbacks_read_over_http_show_no_key(stack: LocalStack, api: httpx.Client) -> None:
    call_back(api, stack.submit("video_fast", "a red bicycle"), "processing")
    text = get(f"{stack.supabase.url}/_double/callbacks").text
    assert '"status":"processing"' in text
    assert stack.double.keys.service not in text


# Tables


def test_rows_are_filtered_ordered_and_cut(stack: LocalStack, api: httpx.Client) -> None:
    ids = [stack.submit("image_fast", f"a red bicycle, {n}") for n in range(3)]
    query = {"status": "eq.queued", "select": "id", "order": "created_at.desc,id", "limit": "2"}
    assert {row["id"] for row in api.get("/rest/v1/jobs", params=query).json()} <= set(ids)
    assert len(api.get("/rest/v1/jobs", params=query).json()) == 2
    chosen = api.get("/rest/v1/jobs", params={"id": f"in.({ids[0]},{ids[2]})", "select": "*"}).json()
    assert {row["id"] for row in chosen} == {ids[0], ids[2]}
    assert chosen[0]["metadata"]["prompt"].startswith("a red bicycle")


def test_null_is_asked_for_by_name(stack: LocalStack, api: httpx.Client) -> None:
    stack.submit("sdxl_image_fast", "a red bicycle", num_images=3)
    single = stack.submit("image_fast", "a red bicycle")
    unnumbered = api.get("/rest/v1/images", params={"image_index": "is.null"}).json()
    assert [row["job_id"] for row in unnumbered] == [single]
    assert len(api.get("/rest/v1/images", params={"image_index": "not.is.null"}).json()) == 3


def test_one_row_can_be_asked_for_and_must_exist(stack: LocalStack, api: httpx.Client) -> None:
    job_id = stack.submit("image_fast", "a red bicycle")
    headers = {"Accept": "application/vnd.pgrst.object+json"}
    assert api.get("/rest/v1/jobs", params={"id": f"eq.{job_id}"}, headers=headers).json()["id"] == job_id
    none = api.get("/rest/v1/jobs", params={"id": "eq.gone"}, headers=headers)
    assert (none.status_code, none.json()["code"]) == (406, "PGRST116")


def test_the_link_is_demanded_of_every_way_to_complete(stack: LocalStack, api: httpx.Client) -> None:
    stack.double.switches.link_after = None
    job_id = stack.submit("video_fast", "a red bicycle")
    refused = api.patch("/rest/v1/jobs", params={"id": f"eq.{job_id}"}, json={"status": "completed"})
    assert refused.status_code == 400
    assert "associated video_id" in refused.json()["message"]


@pytest.mark.parametrize("path", ["/rest/v1/jobs?colour=eq.red", "/rest/v1/jobs?select=colour", "/rest/v1/jobs?id=x.1"])
def test_what_the_tables_do_not_know_is_an_error(api: httpx.Client, path: str) -> None:
    assert api.get(path).status_code == 400


def test_the_tables_need_an_apikey(stack: LocalStack) -> None:
    headers = {"Authorization": f"Bearer {stack.double.keys.service}"}
    assert get(f"{stack.supabase.url}/rest/v1/jobs", headers=headers).status_code == 401


def test_a_user_sees_only_own_rows(stack: LocalStack, browser: httpx.Client) -> None:
    own = stack.submit("image_fast", "a red bicycle", user_id=USER)
    stack.submit("image_fast", "a lighthouse at dusk", user_id=OTHER)
    assert [row["id"] for row in browser.get("/rest/v1/jobs").json()] == [own]
