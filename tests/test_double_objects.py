"""In the dialect `objects` the double behaves as the newest deployment does."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import httpx
import pytest
from double import call_back, paths, popped

from workers.local.stack import SECRET, LocalStack
from workers.payload import parse


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
