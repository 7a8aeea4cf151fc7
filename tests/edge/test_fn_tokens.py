"""Whose token is whose: sessions of the project's secret and of its published keys, and everything that is neither."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fnrig import JWKS, KEYS, PROMPT

from workers.local.edge.stack import EdgeStack


@pytest.fixture
def user(edge) -> str:
    return edge.add_user()


def claims(user: str, **changes: Any) -> dict[str, Any]:
    said = {"sub": user, "role": "authenticated", "aud": "authenticated", "exp": int(time.time()) + 60}
    return {name: value for name, value in (said | changes).items() if value is not None}


@pytest.fixture(autouse=True)
def _without_faults(edge) -> Iterator[None]:
    yield
    edge.faults.clear()


def asks(edge: EdgeStack, token: str, scheme: str = "Bearer", address: str = "") -> httpx.Response:
    headers = {"Authorization": f"{scheme} {token}".encode()}
    url = address or f"{edge.supabase.url}/functions/v1/queue-job"
    return httpx.post(url, headers=headers, json={"jobType": "image_fast", "prompt": PROMPT}, timeout=30, verify=False)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_session_of_a_published_key_is_its_users(edge, user, algorithm):
    token = jwt.encode(claims(user), KEYS[algorithm][0], algorithm, headers={"kid": algorithm})
    answer = asks(edge, token)
    assert (answer.status_code, answer.json()["job"]["user_id"]) == (200, user)


def test_a_session_of_the_projects_secret_is_its_users(edge, user):
    answer = asks(edge, edge.keys.user_token(user))
    assert (answer.status_code, answer.json()["job"]["user_id"]) == (200, user)


def test_without_the_secret_the_sign_in_service_is_asked(edge, user):
    good = edge.keys.user_token(user)
    with edge.function("queue-job", JWT_SECRET="") as address:
        assert asks(edge, good, address=address).status_code == 200
        assert asks(edge, signed(b"a guess", claims(user)), address=address).status_code == 401
        edge.faults.add("error", path="/auth/v1/user", status=502, count=1)
        assert asks(edge, good, address=address).status_code == 503


def test_while_published_keys_cannot_be_read_nobody_is_sent_away(edge, user):
    token = jwt.encode(claims(user), KEYS["ES256"][0], "ES256", headers={"kid": "ES256"})
    with edge.function("queue-job") as address:
        edge.faults.add("error", path="/auth/v1/.well-known/*", status=502, html=True, count=1)
        assert [asks(edge, token, address=address).status_code for _ in range(2)] == [503, 200]


def test_published_keys_may_lie_in_the_environment(edge, user):
    token = jwt.encode(claims(user), KEYS["EdDSA"][0], "EdDSA", headers={"kid": "EdDSA"})
    for given in (JWKS, {"keys": JWKS}):
        with edge.function("queue-job", SUPABASE_JWKS=json.dumps(given)) as address:
            edge.faults.add("error", path="/auth/*", status=502)
            assert asks(edge, token, address=address).status_code == 200


def test_a_token_without_a_key_id_is_tried_with_every_key(edge, user):
    assert asks(edge, jwt.encode(claims(user), KEYS["RS256"][0], "RS256")).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"exp": "later"},
        {"nbf": 4_000_000_000},
        {"role": "service_role"},
        {"role": "anon"},
        {"role": None},
        {"sub": None},
        {"sub": "admin"},
        {"aud": "another"},
    ],
)
def test_a_signed_token_that_is_no_session_is_refused(edge, user, changes):
    assert asks(edge, signed(edge.secret.encode(), claims(user, **changes))).status_code == 401


def test_a_forged_token_is_refused(edge, user):
    public = json.dumps(JWKS[0]).encode()
    forged = [
        jwt.encode(claims(user), ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": "ES256"}),
        jwt.encode(claims(user), "a guessed secret of thirty-two letters", "HS256"),
        jwt.encode(claims(user), None, "none"),
        signed(public, claims(user)),
        jwt.encode(claims(user), KEYS["ES256"][0], "ES256", headers={"kid": "unknown"}),
        jwt.encode(claims(user), KEYS["RS256"][0], "RS512", headers={"kid": "RS256"}),
        re_headed(edge.keys.user_token(user), {"alg": "constructor"}),
        re_headed(edge.keys.user_token(user), {"alg": ["HS256"], "kid": {}}),
        "a.b.c",
        "a.b",
        "é.é.é",
        "x" * 9000,
    ]
    for token in forged:
        answer = asks(edge, token)
        assert (answer.status_code, answer.json()["code"]) == (401, "token")


def test_a_changed_token_is_refused(edge, user):
    head, _, tail = edge.keys.user_token(user).split(".")
    other = base64.urlsafe_b64encode(json.dumps(claims(edge.add_user())).encode()).decode().rstrip("=")
    assert asks(edge, f"{head}.{other}.{tail}").status_code == 401


def test_the_projects_own_keys_are_nobodys_session(edge):
    assert asks(edge, edge.keys.service).status_code == 401
    assert asks(edge, edge.other_keys.service).status_code == 401


def test_only_a_bearer_is_asked_for(edge, user):
    token = edge.keys.user_token(user)
    assert asks(edge, token, "Basic").status_code == 401
    assert asks(edge, token, "bearer").status_code == 200
    url = f"{edge.supabase.url}/functions/v1/queue-job"
    assert httpx.post(url, json={}, verify=False).status_code == 401


def test_a_user_the_database_does_not_know_may_not(edge):
    answer = asks(edge, edge.keys.user_token("00000000-0000-4000-8000-000000000000"))
    assert (answer.status_code, answer.json()["code"]) == (403, "unknown_user")


def signed(secret: bytes, said: dict[str, Any]) -> str:
    """By hand: the library refuses a secret that looks like a public key, and claims that make no sense."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, said)]
    text = b".".join(parts)
    return (text + b"." + base64.urlsafe_b64encode(hmac.digest(secret, text, hashlib.sha256)).rstrip(b"=")).decode()


def re_headed(token: str, header: dict[str, Any]) -> str:
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return ".".join([head, *token.split(".")[1:]])
