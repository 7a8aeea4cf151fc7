"""Whatever waits in the queue, it stops neither a claim nor the jobs around it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import valkey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from queue_bench import LEASE, NAME, SocketConnection, claimed, connect, job
from queue_shop import RANKS, Shop

from workers.local.redis import RedisServer
from workers.queue.rest import ScriptMissing
from workers.queue.upstash import UpstashQueue

HOSTILE: dict[str, bytes] = {
    "metadata null": b'{"metadata":null,"config":null,"priority":null,"type":null,"user_id":null,"created_at":null}',
    "a string for a priority": b'{"priority":"high"}',
    "a number in a string": b'{"priority":"9"}',
    "a list for a priority": b'{"priority":[9]}',
    "an object for a priority": b'{"priority":{"a":9}}',
    "true for a priority": b'{"priority":true}',
    "not a number": b'{"priority":NaN}',
    "infinite": b'{"priority":Infinity}',
    "beyond all numbers": b'{"priority":1e400}',
    "beyond all numbers, below": b'{"priority":-1e400}',
    "lists for everything": b'{"type":[],"user_id":[],"created_at":[],"id":[]}',
    "objects for everything": b'{"type":{},"user_id":{},"created_at":{},"id":{}}',
    "numbers for everything": b'{"type":1,"user_id":2,"created_at":3,"id":4}',
    "numbers that are none": b'{"type":NaN,"user_id":NaN,"created_at":NaN}',
    "a key that is none": b'{"":"","null":null}',
    "an endless user": b'{"user_id":"' + b"a" * 5000 + b'"}',
    "an empty user": b'{"user_id":""}',
    "a user with a line break": b'{"user_id":"a\\n\\u0000b"}',
    "month 99": b'{"created_at":"9999-99-99T99:99:99Z"}',
    "the year 0": b'{"created_at":"0000-00-00T00:00:00Z"}',
    "an array": b"[1,2,3]",
    "an empty array": b"[]",
    "a sparse object": b'{"1":1,"2":2}',
    "data in data": b'{"data":{"data":{"data":{"data":{"data":{"data":{"data":{}}}}}}}}',
    "nested": b"[" * 8000,
    "nested and closed": b"[" * 900 + b"]" * 900,
    "nested objects": b'{"a":' * 2500,
    "null": b"null",
    "a number": b"5",
    "a large number": b"9" * 5000,
    "true": b"true",
    "a string": b'"a red bicycle"',
    "empty": b"",
    "not JSON": b"{'id': 5}",
    "half": b'{"id":"b91f',
    "two objects": b"{}{}",
    "a lone surrogate": b'{"id":"\\ud800","user_id":"\\udfff"}',
    "not text": b'{"id":"\xff\xfe","user_id":"\xff"}',
    "zero bytes": b"\x00" * 100,
    "huge": b'{"prompt":"' + b"a" * 1_000_000 + b'"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_element_stops_the_queue(shop: Shop, name: str) -> None:
    shop.push("before", user_id="a")
    shop.push_raw(name, HOSTILE[name])
    shop.push("after", user_id="b")
    assert Counter(shop.serve()) == Counter(["before", name, "after"])


def test_nor_do_all_of_them_together(shop: Shop) -> None:
    for name, body in HOSTILE.items():
        shop.push_raw(name, body)
        shop.push(f"after {name}", priority=1)
    served = shop.serve()
    assert served[:20] == [f"after {name}" for name in HOSTILE][:20]
    assert set(served[len(HOSTILE) :]) == set(HOSTILE)


@pytest.mark.parametrize("priority", ['"9"', "[9]", "true", "NaN", "Infinity", "1e400", "null", "{}"])
def test_a_priority_that_is_no_finite_number_counts_as_none(shop: Shop, priority: str) -> None:
    shop.push("first")
    shop.push_raw("second", b'{"type":"sdxl_image_fast","priority":%s}' % priority.encode())
    assert shop.serve() == ["first", "second"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("id", "type", "job_type", "priority", "user_id", "userId", "created_at", "metadata", "config", "data")
objects = st.dictionaries(st.sampled_from(NAMES), anything, max_size=6).map(json.dumps)
elements = objects.map(str.encode) | objects.map(lambda text: json.dumps([text]).encode()) | st.binary(max_size=40)


@given(bodies=st.lists(elements, min_size=1, max_size=60), end=st.sampled_from(["tail", "head"]))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_whatever_waits_is_served_once(redis_server: RedisServer, bodies: Sequence[bytes], end: Any) -> None:
    redis_server.flush()
    with connect(redis_server.port) as redis:
        shop = Shop(redis, end)
        for body in bodies:
            shop.push_raw(repr(body), body)
        assert Counter(shop.serve(len(bodies))) == Counter(map(repr, bodies))


class WithoutJson(SocketConnection):
    """A server whose scripts cannot decode JSON."""

    def execute(self, command: Sequence[str | int]) -> Any:
        name, text, *rest = command
        if name == "EVALSHA":
            raise ScriptMissing
        if name == "EVAL":
            assert "cjson.decode" in str(text)
            text = str(text).replace("cjson.decode", "missing.decode")
        return super().execute((name, text, *rest))


def test_a_server_that_cannot_read_json_serves_first_in_first_out(redis: valkey.Valkey) -> None:
    queue = UpstashQueue(NAME, "", "", lease=LEASE, ranks=RANKS, connection=WithoutJson(redis))
    bodies = [job(), json.dumps({"priority": 9}), job()]
    for body in bodies:
        queue.push(body)
    assert [claimed(queue).body for _ in bodies] == bodies
