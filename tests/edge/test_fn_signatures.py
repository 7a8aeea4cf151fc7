"""Whose word job-callback takes: signatures of both forms, times, repetitions, and everything that is none of these."""

from __future__ import annotations

import base64
import json
import time

import httpx
import pytest
from fnrig import CALLBACK, plain

from workers.local.stack import SECRET
from workers.supabase.callback import sign
from workers.supabase.web import auth_headers


def test_a_forged_signature_changes_nothing(worker):
    content = json.dumps(worker.body("completed")).encode()
    good = sign(SECRET, content, "id", int(time.time()))
    forgeries = [
        {},
        plain(content, "a guess"),
        plain(content + b" "),
        {"X-Callback-Signature": "sha256="},
        {"X-Callback-Signature": "sha256=zz"},
        sign("a guess", content, "id", int(time.time())),
        {**good, "webhook-id": "another"},
        {**good, "webhook-timestamp": str(int(time.time()) + 1)},
        {**good, "webhook-timestamp": "soon"},
        {**good, "webhook-signature": "v1,"},
        {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v2,")},
        {**good, "webhook-id": ""},
        {**good, "X-Callback-Signature": plain(content, "a guess")["X-Callback-Signature"]},
        {**good, "webhook-signature": sign("a guess", content, "id", 0)["webhook-signature"]},
    ]
    assert {worker.sends(content, headers).status_code for headers in forgeries} == {401}
    assert worker.row["status"] == "queued"


def test_the_service_key_alone_is_no_signature(worker):
    content = json.dumps(worker.body("completed")).encode()
    assert worker.edge.http.post(CALLBACK, content=content).status_code == 401


def test_one_of_several_signatures_is_enough(worker):
    content = json.dumps(worker.body("processing")).encode()
    headers = sign(SECRET, content, "rotation", int(time.time()))
    headers["webhook-signature"] = f"v1,AAAA {headers['webhook-signature']}"
    del headers["X-Callback-Signature"]
    assert worker.sends(content, headers).status_code == 200


def test_the_newest_form_signs_with_its_own_header_only(worker):
    content = json.dumps(worker.body("completed")).encode()
    answers = [worker.sends(content, plain(content)).json()["outcome"] for _ in range(2)]
    assert answers == ["applied", "duplicate"]


@pytest.mark.parametrize("age", [310, -310, 86_400])
def test_a_message_from_another_time_is_refused(worker, age):
    assert worker.says("completed", age=age).status_code == 401
    assert worker.row["status"] == "queued"


@pytest.mark.parametrize("age", [270, -270])
def test_clocks_may_differ_by_minutes(worker, age):
    assert worker.says("processing", age=age).status_code == 200


def test_a_secret_in_the_form_of_standard_webhooks_is_understood(worker):
    secret = "whsec_" + base64.b64encode(b"thirty-two bytes that nobody else").decode()
    content = json.dumps(worker.body("processing")).encode()
    with worker.edge.function("job-callback", JOB_CALLBACK_SECRET=secret) as address:
        good = sign(secret, content, "id", int(time.time()))
        assert post(address, content, sign(secret[:-4], content, "id", int(time.time()))).status_code == 401
        assert post(address, content, good).status_code == 200


@pytest.mark.parametrize("kind", ["new", "legacy"])
def test_a_deployment_without_a_secret_knows_its_workers_by_the_service_key(worker, browser, kind):
    edge, content = worker.edge, json.dumps(worker.body("completed")).encode()
    key = edge.keys.service if kind == "new" else edge.other_keys.service
    own = {} if kind == "new" else {"SUPABASE_SECRET_KEYS": "", "SUPABASE_SERVICE_ROLE_KEY": key}
    with edge.function("job-callback", JOB_CALLBACK_SECRET="", **own) as address:
        guesses = [{}, {"apikey": key[:-1]}, {"Authorization": f"Bearer {key}x"}, dict(browser.http.headers)]
        assert {post(address, content, guess).status_code for guess in guesses} == {401}
        assert post(address, content, auth_headers(key)).json()["outcome"] == "applied"


def post(address: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(address, content=content, headers=headers, timeout=30, verify=False)
