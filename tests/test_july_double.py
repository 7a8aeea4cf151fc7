"""The double behaves as the July deployment does, and in its other dialect as the newest one."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from storage3 import SyncStorageClient
from storage3.exceptions import StorageApiError
from support import get, post, wait_until

from workers.local.redis import RedisServer
from workers.local.stack import SECRET, LocalStack
from workers.payload import parse
from workers.settings import load_presets

USER = "22222222-2222-4222-8222-222222222222"
OTHER = "33333333-3333-4333-8333-333333333333"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
TYPES = sorted(load_presets())


def service(stack: LocalStack) -> httpx.Client:
    key = stack.double.keys.service
    headers = {"Authorization": f"Bearer {key}", "apikey": key}
    return httpx.Client(base_url=stack.supabase.url, headers=headers, timeout=10, verify=False)


@pytest.fixture
def api(stack: LocalStack) -> Iterator[httpx.Client]:
    """What holds the service key."""
    with service(stack) as client:
        yield client


@pytest.fixture
def browser(stack: LocalStack) -> Iterator[httpx.Client]:
    """What holds a signed-in user's token."""
    token = stack.double.keys.user_token(USER)
    headers = {"Authorization": f"Bearer {token}", "apikey": "anon"}
    with httpx.Client(base_url=stack.supabase.url, headers=headers, timeout=10, verify=False) as client:
        yield client


@pytest.fixture
def newest_api(newest_stack: LocalStack) -> Iterator[httpx.Client]:
    with service(newest_stack) as client:
        yield client


def upload(api: httpx.Client, place: str, data: bytes = PNG, content_type: str = "image/png", **headers: str) -> Any:
    return api.post(f"/storage/v1/object/{place}", content=data, headers={"Content-Type": content_type, **headers})


def popped(stack: LocalStack, queue: str, command: str = "rpop") -> str:
    headers = {"Authorization": f"Bearer {stack.env['UPSTASH_REDIS_REST_TOKEN']}"}
    return get(f"{stack.gateway.url}/{command}/{queue}", headers=headers).json()["result"]


def call_back(api: httpx.Client, job_id: str, status: str, **body: Any) -> httpx.Response:
    return api.post("/functions/v1/job-callback", json={"job_id": job_id, "status": status, **body})


def paths(job_id: str, count: int = 1, extension: str = "png") -> list[str]:
    return [f"{USER}/{job_id}/{index}.{extension}" for index in range(count)]


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


# Storage


def test_there_is_a_private_bucket_for_each_type_and_one_shared(api: httpx.Client) -> None:
    buckets = {bucket["id"]: bucket for bucket in api.get("/storage/v1/bucket").json()}
    assert sorted(buckets) == sorted([*TYPES, "workspace-temp"])
    assert not any(bucket["public"] for bucket in buckets.values())
    mib = {name: bucket["file_size_limit"] / 2**20 for name, bucket in buckets.items()}
    assert mib == {
        "sdxl_image_fast": 5,
        "sdxl_image_high": 10,
        "image_fast": 5,
        "image_high": 10,
        "video_fast": 50,
        "video_high": 200,
        "image7b_fast_enhanced": 20,
        "image7b_high_enhanced": 20,
        "video7b_fast_enhanced": 100,
        "video7b_high_enhanced": 100,
        "workspace-temp": 1024,
    }
    assert buckets["video_fast"]["allowed_mime_types"] == ["video/mp4", "video/webm", "video/mpeg", "video/quicktime"]
    assert buckets["video7b_fast_enhanced"]["allowed_mime_types"] == ["video/mp4"]


def test_an_object_is_uploaded_and_read_back(api: httpx.Client) -> None:
    answer = upload(api, f"image_fast/{USER}/j/0.png")
    assert answer.status_code == 200
    assert answer.json()["Key"] == f"image_fast/{USER}/j/0.png"
    read = api.get(f"/storage/v1/object/image_fast/{USER}/j/0.png")
    assert (read.content, read.headers["content-type"]) == (PNG, "image/png")


def test_a_second_upload_needs_upsert(api: httpx.Client, stack: LocalStack) -> None:
    upload(api, "image_fast/u/0.png")
    again = upload(api, "image_fast/u/0.png", b"new")
    assert again.status_code == 400
    assert again.json() == {"statusCode": "409", "error": "Duplicate", "message": "The resource already exists"}
    assert upload(api, "image_fast/u/0.png", b"new", **{"x-upsert": "true"}).status_code == 200
    assert stack.double.read("image_fast", "u/0.png") == b"new"


def test_put_replaces_only_what_is_there(api: httpx.Client) -> None:
    place, headers = "/storage/v1/object/image_fast/u/0.png", {"Content-Type": "image/png"}
    assert api.put(place, content=PNG, headers=headers).json()["statusCode"] == "404"
    upload(api, "image_fast/u/0.png")
    assert api.put(place, content=b"new", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("place", "data", "content_type", "status"),
    [
        ("nowhere/u/0.png", PNG, "image/png", "404"),
        ("image_fast/u/0.png", b"x" * (5 * 2**20 + 1), "image/png", "413"),
        ("image_fast/u/0.txt", PNG, "text/plain", "415"),
        ("video_fast/u/0.webp", PNG, "image/webp", "415"),
    ],
)
def test_storage_says_400_and_means_another_status(
    api: httpx.Client, place: str, data: bytes, content_type: str, status: str
) -> None:
    answer = upload(api, place, data, content_type)
    assert answer.status_code == 400
    assert answer.json()["statusCode"] == status


def test_an_object_of_exactly_the_limit_is_taken(api: httpx.Client) -> None:
    assert upload(api, "image_fast/u/0.png", b"x" * 5 * 2**20).status_code == 200


def test_a_removed_object_is_gone(api: httpx.Client) -> None:
    upload(api, "image_fast/u/0.png")
    assert api.delete("/storage/v1/object/image_fast/u/0.png").status_code == 200
    assert api.get("/storage/v1/object/image_fast/u/0.png").json()["error"] == "not_found"
    assert api.delete("/storage/v1/object/image_fast/u/0.png").json()["statusCode"] == "404"


def test_a_signed_address_needs_no_key_and_opens_one_object(api: httpx.Client, stack: LocalStack) -> None:
    upload(api, "image_fast/u/0.png")
    upload(api, "image_fast/u/1.png")
    signed = api.post("/storage/v1/object/sign/image_fast/u/0.png", json={"expiresIn": 60}).json()["signedURL"]
    address = f"{stack.supabase.url}/storage/v1{signed}"
    assert get(address).content == PNG
    assert get(address.replace("0.png", "1.png")).status_code == 400
    assert get(address + "x").status_code == 400


def test_a_signed_address_expires(api: httpx.Client) -> None:
    upload(api, "image_fast/u/0.png")
    signed = api.post("/storage/v1/object/sign/image_fast/u/0.png", json={"expiresIn": -1}).json()["signedURL"]
    assert api.get(f"/storage/v1{signed}").status_code == 400


def test_a_user_signs_only_in_the_own_folder(api: httpx.Client, browser: httpx.Client) -> None:
    for owner in (USER, OTHER):
        upload(api, f"image_fast/{owner}/j/0.png")
    sign = "/storage/v1/object/sign/image_fast"
    assert browser.post(f"{sign}/{USER}/j/0.png", json={"expiresIn": 60}).status_code == 200
    assert browser.post(f"{sign}/{OTHER}/j/0.png", json={"expiresIn": 60}).status_code != 200
    assert browser.get(f"/storage/v1/object/image_fast/{OTHER}/j/0.png").json()["statusCode"] == "404"


def test_a_folder_lists_its_files_and_folders(api: httpx.Client) -> None:
    for path in ("u/j/0.png", "u/j/1.png", "u/cover.png"):
        upload(api, f"image_fast/{path}")
    listing = api.post("/storage/v1/object/list/image_fast", json={"prefix": "u"}).json()
    assert [(entry["name"], entry["id"] is None) for entry in listing] == [("j", True), ("cover.png", False)]
    assert listing[1]["metadata"]["size"] == len(PNG)


def test_a_clip_can_be_read_in_ranges(api: httpx.Client) -> None:
    upload(api, "video_fast/u/0.mp4", bytes(1000), "video/mp4")
    part = api.get("/storage/v1/object/video_fast/u/0.mp4", headers={"Range": "bytes=0-99"})
    assert (part.status_code, len(part.content)) == (206, 100)


def test_the_official_client_uploads_signs_and_removes(stack: LocalStack) -> None:
    key = stack.double.keys.service
    with httpx.Client() as http:
        client = SyncStorageClient(
            f"{stack.supabase.url}/storage/v1/", {"Authorization": f"Bearer {key}"}, http_client=http
        )
        bucket = client.from_("image_fast")
        bucket.upload("u/0.png", PNG, {"content-type": "image/png", "upsert": "true"})
        assert bucket.download("u/0.png") == PNG
        assert get(bucket.create_signed_url("u/0.png", 60)["signedURL"]).content == PNG
        with pytest.raises(StorageApiError) as caught:
            bucket.upload("u/0.png", PNG, {"content-type": "image/png"})
        assert caught.value.status == "409"
        assert len(bucket.remove(["u/0.png", "u/gone.png"])) == 1


# queue-job


@pytest.mark.parametrize("job_type", TYPES)
def test_every_type_is_queued_where_its_kind_looks(stack: LocalStack, job_type: str) -> None:
    job_id = stack.submit(job_type, "a lighthouse at dusk")
    queue = "sdxl_queue" if job_type.startswith("sdxl_") else "wan_queue"
    job = parse(popped(stack, queue))
    assert (job.id, job.type, job.prompt) == (job_id, job_type, "a lighthouse at dusk")
    assert stack.job(job_id)["status"] == "queued"


def test_the_payload_has_the_form_of_july(stack: LocalStack) -> None:
    job_id = stack.submit("sdxl_image_fast", "a red bicycle", num_images=3, user_id=USER)
    payload = json.loads(popped(stack, "sdxl_queue"))
    created, negative = payload.pop("created_at"), payload.pop("negative_prompt")
    metadata = payload.pop("metadata")
    assert payload == {
        "id": job_id,
        "type": "sdxl_image_fast",
        "prompt": "a red bicycle",
        "config": {
            "size": "480*832",
            "sample_steps": 25,
            "sample_guide_scale": 6.5,
            "sample_solver": "unipc",
            "sample_shift": 5,
            "frame_num": 1,
            "enhance_prompt": False,
            "expected_time": 25,
            "content_type": "image",
            "file_extension": "png",
            "num_images": 3,
        },
        "user_id": USER,
        "character_id": None,
        "model_variant": "lustify_sdxl",
        "bucket": "sdxl_image_fast",
    }
    assert created.endswith("Z")
    assert len(re.findall(r"\w+|,", negative)) > 77
    assert (metadata["num_images"], metadata["credits"]) == (3, 1)


@pytest.mark.parametrize(
    ("job_type", "expected"),
    [
        ("image_fast", (25, 6.5, 1, False)),
        ("image_high", (50, 7.5, 1, False)),
        ("video_fast", (25, 6.5, 83, False)),
        ("video7b_high_enhanced", (50, 7.5, 83, True)),
    ],
)
def test_the_video_model_gets_its_settings(stack: LocalStack, job_type: str, expected: tuple[Any, ...]) -> None:
    stack.submit(job_type, "a red bicycle")
    payload = json.loads(popped(stack, "wan_queue"))
    keys = ("sample_steps", "sample_guide_scale", "frame_num", "enhance_prompt")
    assert tuple(payload["config"][key] for key in keys) == expected
    assert "negative_prompt" not in payload
    assert "image_id" not in payload


def test_what_a_later_client_wishes_reaches_the_config(stack: LocalStack) -> None:
    stack.submit("image_fast", "a red bicycle", seed=0)
    assert json.loads(popped(stack, "wan_queue"))["config"]["seed"] == 0


def test_the_answer_tells_the_length_of_the_queue(api: httpx.Client) -> None:
    body = {"jobType": "image_fast", "prompt": "a red bicycle"}
    answers = [api.post("/functions/v1/queue-job", json=body).json() for _ in range(2)]
    assert [(answer["success"], answer["queueLength"]) for answer in answers] == [(True, 1), (True, 2)]
    assert answers[0]["job"]["job_type"] == "image_fast"


def test_an_unknown_type_is_refused(api: httpx.Client) -> None:
    assert api.post("/functions/v1/queue-job", json={"jobType": "sculpture"}).status_code == 400


def test_a_batch_has_a_numbered_row_for_each_image(stack: LocalStack) -> None:
    job_id = stack.submit("sdxl_image_fast", "a red bicycle", num_images=3)
    assert [row["image_index"] for row in stack.double.rows("images", job_id=job_id)] == [0, 1, 2]


def test_a_single_image_has_a_row_without_number_and_a_clip_a_row_of_its_own(stack: LocalStack) -> None:
    image, clip = stack.submit("image_fast", "a red bicycle"), stack.submit("video_fast", "a red bicycle")
    assert [row["image_index"] for row in stack.double.rows("images", job_id=image)] == [None]
    assert [row["status"] for row in stack.double.rows("videos", job_id=clip)] == ["queued"]
    assert stack.job(clip)["video_id"] == stack.double.rows("videos", job_id=clip)[0]["id"]


def test_a_queue_that_is_away_leaves_the_row_behind(stack: LocalStack) -> None:
    stack.gateway_faults.add("error", path="/lpush/*", count=1)
    with pytest.raises(httpx.HTTPStatusError):
        stack.submit("image_fast", "a red bicycle")
    assert [job["status"] for job in stack.jobs()] == ["queued"]


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


# The dialect `objects`


def signed(api: httpx.Client, secret: str = SECRET, **body: Any) -> httpx.Response:
    content = json.dumps(body).encode()
    signature = "sha256=" + hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Callback-Signature": signature}
    return api.post("/functions/v1/job-callback", content=content, headers=headers)


def test_the_newest_payload_is_a_list_with_a_string_pushed_at_the_right(newest_stack: LocalStack) -> None:
    first = newest_stack.submit("sdxl_image_fast", "a red bicycle")
    newest_stack.submit("sdxl_image_fast", "a lighthouse at dusk")
    element = popped(newest_stack, "sdxl_queue", "lpop")
    (text,) = json.loads(element)
    payload = json.loads(text)
    assert payload["id"] == payload["job_id"] == first
    assert payload["type"] == payload["job_type"] == "sdxl_image_fast"
    assert not {"size", "frame_num", "enhance_prompt"} & payload["config"].keys()
    assert "bucket" not in payload
    assert parse(element).id == first


@pytest.mark.parametrize("secret", ["", "wrong"])
def test_the_newest_callback_must_be_signed(newest_stack: LocalStack, newest_api: httpx.Client, secret: str) -> None:
    job_id = newest_stack.submit("video_fast", "a red bicycle")
    assert signed(newest_api, secret, job_id=job_id, status="failed").status_code == 401
    assert call_back(newest_api, job_id, "failed").status_code == 401
    assert newest_stack.job(job_id)["status"] == "queued"


def test_the_newest_callback_keeps_objects_and_loses_strings(
    newest_stack: LocalStack, newest_api: httpx.Client
) -> None:
    job_id = newest_stack.submit("sdxl_image_fast", "a red bicycle")
    asset = {"type": "image", "url": paths(job_id)[0], "thumbnail_url": None, "metadata": {"seed": 7}}
    body = {"assets": [asset, paths(job_id)[0]], "results": {"assets": [asset, asset]}}
    assert signed(newest_api, job_id=job_id, status="completed", **body).status_code == 200
    (row,) = newest_stack.double.rows("workspace_assets", job_id=job_id)
    assert (row["temp_storage_path"], row["metadata"]) == (paths(job_id)[0], {"seed": 7})


def test_the_newest_callback_skips_what_comes_after_the_end(newest_stack: LocalStack, newest_api: httpx.Client) -> None:
    job_id = newest_stack.submit("video_fast", "a red bicycle")
    first = signed(newest_api, job_id=job_id, status="completed", assets=[])
    again = signed(newest_api, job_id=job_id, status="failed", errorMessage="Too late.")
    assert "skipped" not in first.json()
    assert (again.status_code, again.json()["skipped"]) == (200, True)
    assert newest_stack.job(job_id)["status"] == "completed"


def test_the_newest_callback_takes_processing_for_an_end(newest_stack: LocalStack, newest_api: httpx.Client) -> None:
    job_id = newest_stack.submit("video_fast", "a red bicycle")
    signed(newest_api, job_id=job_id, status="processing")
    assert newest_stack.job(job_id)["completed_at"] is not None
