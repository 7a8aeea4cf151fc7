"""The gateway serves subscriptions, and the official Python client at its defaults."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from support import RunningGateway, run, wait_until
from upstash_redis import Redis
from upstash_redis.errors import UpstashError


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Redis]:
    """The official Python client at its defaults."""
    with Redis(url=gateway.url, token=gateway.token) as redis:
        yield redis


# Server-sent events


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_subscription_streams_what_is_published(rest: httpx.Client, method: str) -> None:
    with rest.stream(method, "/subscribe/wake:sdxl_queue", headers={"Accept": "text/event-stream"}) as events:
        lines = (line for line in events.iter_lines() if line)
        assert next(lines) == "data: subscribe,wake:sdxl_queue,1"
        assert run(rest, "PUBLISH", "wake:sdxl_queue", "b91f, go") == 1
        assert next(lines) == "data: message,wake:sdxl_queue,b91f, go"


def test_a_pattern_subscription_names_pattern_and_channel(rest: httpx.Client) -> None:
    with rest.stream("POST", "/psubscribe/wake:*", headers={"Accept": "text/event-stream"}) as events:
        lines = (line for line in events.iter_lines() if line)
        assert next(lines) == "data: psubscribe,wake:*,1"
        run(rest, "PUBLISH", "wake:wan_queue", "1")
        assert next(lines) == "data: pmessage,wake:*,wake:wan_queue,1"


def test_a_subscription_needs_the_event_stream_header(rest: httpx.Client) -> None:
    assert rest.post("/subscribe/wake").status_code == 400


def test_a_closed_subscription_leaves_redis(rest: httpx.Client) -> None:
    with rest.stream("GET", "/subscribe/wake", headers={"Accept": "text/event-stream"}) as events:
        lines = events.iter_lines()
        next(lines)
        assert run(rest, "PUBSUB", "NUMSUB", "wake") == ["wake", 1]
    wait_until(lambda: run(rest, "PUBSUB", "NUMSUB", "wake") == ["wake", 0])


# The official Python client


def test_the_python_client_round_trips_text(client: Redis) -> None:
    assert client.set("a", "é\n\x00") is True
    assert client.get("a") == "é\n\x00"
    assert client.get("nothing") is None


def test_the_python_client_reads_lists_hashes_and_streams(client: Redis) -> None:
    assert client.rpush("q", "a", "b") == 2
    assert client.lmove("q", "p", "LEFT", "RIGHT") == "a"
    assert client.hset("h", values={"x": "1", "y": "2"}) == 2
    assert client.hgetall("h") == {"x": "1", "y": "2"}
    entry = client.xadd("s", "*", {"k": "v"})
    assert client.xrange("s") == [[entry, ["k", "v"]]]


def test_the_python_client_runs_scripts(client: Redis) -> None:
    sha = client.script_load("return {KEYS[1], ARGV[1], 3}")
    assert client.evalsha(sha, ["k"], ["a"]) == ["k", "a", 3]
    with pytest.raises(UpstashError, match="NOSCRIPT"):
        client.evalsha("0" * 40)


def test_the_python_client_sends_pipelines_and_transactions(client: Redis) -> None:
    for batch in (client.pipeline(), client.multi()):
        batch.set("n", 1)
        batch.incr("n")
        batch.get("n")
        assert batch.exec() == [True, 2, "2"]


def test_the_python_client_raises_on_a_bad_token(gateway: RunningGateway) -> None:
    with Redis(url=gateway.url, token="wrong") as redis, pytest.raises(UpstashError, match="WRONGPASS"):
        redis.ping()
