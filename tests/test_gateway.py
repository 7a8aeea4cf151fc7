"""The REST gateway answers as the Upstash service does, to plain requests."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from support import RunningGateway, get, post, run


@pytest.fixture
def encoded(gateway: RunningGateway) -> Iterator[httpx.Client]:
    """A client that asks for base64, as both official ones do."""
    with gateway.client(**{"Upstash-Encoding": "base64"}) as client:
        yield client


# The command in the body


def test_a_command_is_an_array_in_the_body(rest: httpx.Client) -> None:
    assert rest.post("/", json=["SET", "lamp", "lit"]).json() == {"result": "OK"}
    assert rest.post("/", json=["GET", "lamp"]).json() == {"result": "lit"}


def test_nil_integers_and_nested_arrays_keep_their_shape(rest: httpx.Client) -> None:
    assert rest.post("/", json=["GET", "nothing"]).json() == {"result": None}
    assert run(rest, "EVAL", "return {1, 'a', {2, false, {}}}", 0) == [1, "a", [2, None, []]]


def test_numbers_reach_redis_as_they_were_written(rest: httpx.Client) -> None:
    rest.post("/", content=b'["RPUSH","q",1.50,12345678901234567890,true]')
    assert run(rest, "LRANGE", "q", 0, -1) == ["1.50", "12345678901234567890", "true"]


@pytest.mark.parametrize("body", [b"", b"no json", b"{}", b"[]", b'["GET",null]', b'["GET",["a"]]'])
def test_a_body_that_is_no_command_is_refused(rest: httpx.Client, body: bytes) -> None:
    answer = rest.post("/", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("ERR ")


def test_an_error_of_redis_is_passed_on_with_400(rest: httpx.Client) -> None:
    answer = rest.post("/", json=["GET"])
    assert answer.status_code == 400
    assert answer.json() == {"error": "ERR wrong number of arguments for 'get' command"}


def test_an_unknown_script_is_named_as_redis_names_it(rest: httpx.Client) -> None:
    answer = rest.post("/", json=["EVALSHA", "0" * 40, 0])
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("NOSCRIPT No matching script")


# The command in the path


def test_a_command_is_the_segments_of_the_path(rest: httpx.Client) -> None:
    assert rest.get("/set/lamp/lit/EX/100").json() == {"result": "OK"}
    assert rest.post("/get/lamp").json() == {"result": "lit"}
    assert rest.put("/ttl/lamp").json() == {"result": 100}


def test_a_segment_is_decoded_after_the_path_was_split(rest: httpx.Client) -> None:
    rest.get("/set/a%2Fb%20c/%C3%A9+%25")
    assert run(rest, "GET", "a/b c") == "é+%"


def test_a_body_is_appended_as_it_is(rest: httpx.Client) -> None:
    job = b'{"id": "b91f",  "prompt": "a red bicycle"}\n'
    assert rest.post("/lpush/sdxl_queue", content=job).json() == {"result": 1}
    assert run(rest, "RPOP", "sdxl_queue") == job.decode()


def test_a_list_in_the_body_is_one_element(rest: httpx.Client) -> None:
    rest.post("/rpush/sdxl_queue", content=json.dumps(["{}"]))
    assert run(rest, "LRANGE", "sdxl_queue", 0, -1) == ['["{}"]']


def test_query_parameters_follow_the_body(rest: httpx.Client) -> None:
    rest.post("/set/lamp?EX=100&NX", content="lit")
    assert run(rest, "GET", "lamp") == "lit"
    assert run(rest, "TTL", "lamp") == 100
    assert rest.post("/set/lamp?NX", content="dark").json() == {"result": None}


# Many commands at once


def test_a_pipeline_answers_in_order_and_goes_on_after_an_error(rest: httpx.Client) -> None:
    answer = rest.post("/pipeline", json=[["SET", "a", "x"], ["INCR", "a"], ["BLPOP", "q", 1], ["GET", "a"]])
    assert answer.status_code == 200
    first, second, third, fourth = answer.json()
    assert (first, fourth) == ({"result": "OK"}, {"result": "x"})
    assert second == {"error": "ERR value is not an integer or out of range"}
    assert third["error"].startswith("ERR Command is not available: 'BLPOP'")


def test_a_transaction_answers_each_command(rest: httpx.Client) -> None:
    answer = rest.post("/multi-exec", json=[["SET", "a", "x"], ["INCR", "a"], ["GET", "a"]])
    assert answer.status_code == 200
    assert [set(part) for part in answer.json()] == [{"result"}, {"error"}, {"result"}]


@pytest.mark.parametrize("bad", [["GET"], ["BLPOP", "q", 0], ["HEXPIRE", "h", 1]])
def test_a_transaction_with_a_refused_command_does_nothing(rest: httpx.Client, bad: list[Any]) -> None:
    answer = rest.post("/multi-exec", json=[["SET", "a", "x"], bad])
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("EXECABORT Transaction discarded because of: ERR ")
    assert run(rest, "EXISTS", "a") == 0


def test_a_transaction_is_not_mixed_with_other_requests(gateway: RunningGateway) -> None:
    def bump(_: int) -> list[int]:
        with gateway.client() as rest:
            answer = rest.post("/multi-exec", json=[["INCR", "n"]] * 20).json()
        return [part["result"] for part in answer]

    with ThreadPoolExecutor(8) as pool:
        for numbers in pool.map(bump, range(40)):
            assert numbers == list(range(numbers[0], numbers[0] + 20))


@pytest.mark.parametrize("body", [[], ["GET"], [[]], {"a": 1}])
def test_many_commands_are_a_list_of_lists(rest: httpx.Client, body: Any) -> None:
    assert rest.post("/pipeline", json=body).status_code == 400


# Base64


def test_base64_covers_every_string_at_any_depth_except_ok(encoded: httpx.Client) -> None:
    def b64(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    assert encoded.post("/", json=["SET", "a", "é"]).json() == {"result": "OK"}
    assert encoded.post("/", json=["GET", "a"]).json() == {"result": b64("é")}
    nested = encoded.post("/", json=["EVAL", "return {1, 'a', {'b', false}}", 0]).json()
    assert nested == {"result": [1, b64("a"), [b64("b"), None]]}
    assert encoded.post("/pipeline", json=[["PING"], ["DEL", "a"]]).json() == [{"result": b64("PONG")}, {"result": 1}]


def test_errors_are_never_base64(encoded: httpx.Client) -> None:
    assert encoded.post("/", json=["GET"]).json()["error"].startswith("ERR wrong number")


def test_bytes_that_are_not_utf8_survive_in_base64(encoded: httpx.Client) -> None:
    raw = bytes(range(256))
    encoded.post("/set/raw", content=raw)
    assert base64.b64decode(encoded.get("/get/raw").json()["result"]) == raw


# Who may ask what


def test_a_bad_token_is_refused_with_401(gateway: RunningGateway) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {gateway.token}"}):
        answer = post(gateway.url, json=["PING"], headers=headers)
        assert answer.status_code == 401
        assert "error" in answer.json()


def test_the_token_may_be_a_query_parameter(gateway: RunningGateway) -> None:
    assert get(f"{gateway.url}/echo/hi?_token={gateway.token}").json() == {"result": "hi"}


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_refused_with_405(rest: httpx.Client, method: str) -> None:
    assert rest.request(method, "/get/a").status_code == 405


@pytest.mark.parametrize(
    "command",
    [
        "BLPOP q 0",
        "BRPOP q 0",
        "BLMOVE a b LEFT RIGHT 0",
        "BRPOPLPUSH a b 0",
        "BLMPOP 0 1 q LEFT",
        "BZPOPMIN z 0",
        "BZPOPMAX z 0",
        "BZMPOP 0 1 z MIN",
        "XREAD BLOCK 0 STREAMS s $",
        "XREADGROUP GROUP g c block 0 STREAMS s >",
        "WAIT 1 0",
        "WATCH a",
        "MULTI",
        "SUBSCRIBE a",
        "MONITOR",
        "SHUTDOWN",
        "CONFIG GET *",
        "CLIENT LIST",
        "SELECT 1",
        "LMPOP 1 q LEFT",
        "ZMPOP 1 z MIN",
        "FUNCTION LIST",
        "FCALL f 0",
        "HEXPIRE h 1 FIELDS 1 f",
    ],
)
def test_a_command_that_blocks_or_is_newer_than_redis_6_2_is_refused(rest: httpx.Client, command: str) -> None:
    answer = rest.post("/", json=command.split())
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"ERR Command is not available: '{command.split()[0]}'")


def test_scripts_cannot_call_newer_commands_either(rest: httpx.Client) -> None:
    answer = rest.post("/", json=["EVAL", "return redis.call('LMPOP', 1, 'q', 'LEFT')", 0])
    assert answer.status_code == 400


def test_expire_takes_no_condition(rest: httpx.Client) -> None:
    assert rest.post("/", json=["EXPIRE", "a", 10, "NX"]).status_code == 400


def test_a_stream_is_read_without_blocking(rest: httpx.Client) -> None:
    run(rest, "XADD", "s", "1-1", "field", "BLOCK")
    assert run(rest, "XREAD", "COUNT", 1, "STREAMS", "s", 0) == [["s", [["1-1", ["field", "BLOCK"]]]]]
