"""The REST client: bounded in time, and every failure says what the caller can do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from queue_bench import LEASE, NAME, connect, job, new_token
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from support import RunningGateway
from upstash_redis import Redis

from workers.claim import Beat
from workers.errors import Unreachable
from workers.local.serving import LocalServer
from workers.queue.budget import Budget
from workers.queue.rest import RestConnection
from workers.queue.upstash import UpstashQueue


def open_queue(gateway: RunningGateway, **options: Any) -> UpstashQueue:
    return UpstashQueue(NAME, gateway.url, options.pop("token", gateway.token), lease=LEASE, **options)


@pytest.fixture
def queue(gateway: RunningGateway) -> Iterator[UpstashQueue]:
    with closing(open_queue(gateway, timeout=60.0)) as queue:
        yield queue


def failure(queue: UpstashQueue) -> Unreachable:
    """The error of a claim that must neither succeed nor look like an empty queue."""
    with pytest.raises(Unreachable) as caught:
        queue.claim(new_token())
    return caught.value


def test_the_packages_client_is_replaced_by_one_with_time_outs() -> None:
    assert isinstance(Redis(url="http://127.0.0.1", token="t")._http._client, httpx.Client)
    connection = RestConnection("http://127.0.0.1", "t", timeout=7.0, budget=Budget())
    client = connection._redis._http._client
    assert client.timeout == httpx.Timeout(7.0, connect=5.0)
    assert connection._redis._http._retries == 0
    connection.close()
    assert client.is_closed


def test_a_healthy_queue_passes_its_check(queue: UpstashQueue) -> None:
    queue.check()
    queue.push(job())
    assert queue.claim(new_token()).claim is not None


def test_a_wrong_token_is_denied(gateway: RunningGateway) -> None:
    with closing(open_queue(gateway, token="wrong")) as queue:
        assert failure(queue).denied
        with pytest.raises(Unreachable):
            queue.check()


def test_a_forbidden_answer_is_denied(gateway: RunningGateway, queue: UpstashQueue) -> None:
    gateway.faults.add("error", status=403)
    assert failure(queue).denied


def test_a_request_to_slow_down_says_for_how_long(gateway: RunningGateway, queue: UpstashQueue) -> None:
    gateway.faults.add("error", status=429, retry_after=17)
    error = failure(queue)
    assert (error.retry_after, error.denied) == (17.0, False)


def test_a_request_to_slow_down_may_say_nothing_more(gateway: RunningGateway, queue: UpstashQueue) -> None:
    gateway.faults.add("error", status=429)
    assert failure(queue).retry_after is None


@pytest.mark.parametrize("status", [204, 302, 404, 405, 408, 425, 500, 503, 504])
def test_any_other_status_is_a_failure(gateway: RunningGateway, queue: UpstashQueue, status: int) -> None:
    gateway.faults.add("error", status=status)
    assert not failure(queue).denied


@pytest.mark.parametrize("status", [200, 400, 502])
def test_a_proxys_page_is_a_failure(gateway: RunningGateway, queue: UpstashQueue, status: int) -> None:
    gateway.faults.add("error", status=status, html=True)
    failure(queue)


def test_a_gateway_that_hangs_is_given_up_after_the_time_out(gateway: RunningGateway) -> None:
    hanging = gateway.faults.add("hang", seconds=600)
    with closing(open_queue(gateway, timeout=0.2)) as queue:
        failure(queue)
    assert hanging.struck


def test_a_cut_connection_is_a_failure_and_nothing_is_sent_twice(gateway: RunningGateway, queue: UpstashQueue) -> None:
    struck = gateway.faults.add("lost_request")
    failure(queue)
    assert struck.struck == 1


def test_nobody_listening_is_a_failure() -> None:
    with closing(UpstashQueue(NAME, "http://127.0.0.1:9", "t", lease=LEASE)) as queue:
        failure(queue)


def test_a_claim_whose_reply_was_cut_is_found_again_by_its_token(gateway: RunningGateway, queue: UpstashQueue) -> None:
    body, token = job(), new_token()
    queue.push(body)
    queue.push(job())
    queue.check()
    gateway.faults.add("lost_reply", contains=token, count=1)
    with pytest.raises(Unreachable):
        queue.claim(token)
    reply = queue.claim(token)
    assert reply.claim is not None
    assert (reply.claim.body, reply.claim.attempt, reply.waiting) == (body, 1, 1)


def test_an_acknowledgement_whose_reply_was_cut_has_taken_effect(gateway: RunningGateway, queue: UpstashQueue) -> None:
    queue.push(job())
    token = new_token()
    queue.claim(token)
    queue.check()
    gateway.faults.add("lost_reply", count=1)
    with pytest.raises(Unreachable):
        queue.ack(token, None)
    assert not queue.ack(token, None)
    assert queue.claim(new_token()).claim is None


def test_scripts_forgotten_by_the_server_are_sent_again(gateway: RunningGateway, queue: UpstashQueue) -> None:
    queue.push(job())
    with connect(gateway.redis.port) as redis:
        redis.script_flush()
    assert queue.claim(new_token()).claim is not None


def test_a_body_that_is_not_text_can_be_claimed_and_buried(gateway: RunningGateway, queue: UpstashQueue) -> None:
    with connect(gateway.redis.port) as redis:
        redis.lpush(NAME, b'{"prompt": "\xff"}')
    claim = queue.claim(new_token()).claim
    assert claim is not None
    assert claim.body == '{"prompt": "\udcff"}'
    assert queue.bury(claim.token, "unreadable")
    assert queue.dead()[0].body == claim.body


def test_bodies_keep_every_character(queue: UpstashQueue) -> None:
    body = '{"prompt": "ein Leuchtturm bei Dämmerung, 灯台 \\u0000 OK"}'
    for text in (body, "OK"):
        queue.push(text)
        claim = queue.claim(new_token()).claim
        assert claim is not None
        assert claim.body == text


class Parrot:
    """A service that says the same to everything."""

    def __init__(self) -> None:
        self.response = JSONResponse(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.response(scope, receive, send)


@pytest.fixture(scope="module")
def parrot_server() -> Iterator[tuple[Parrot, str]]:
    parrot = Parrot()
    with LocalServer(parrot) as server:
        yield parrot, server.url


Answering = Callable[[int, Any], UpstashQueue]


@pytest.fixture
def answering(parrot_server: tuple[Parrot, str]) -> Iterator[Answering]:
    """A queue behind a service that always gives this status and this answer."""
    parrot, url = parrot_server

    def with_answer(status: int, answer: Any) -> UpstashQueue:
        parrot.response = JSONResponse(answer, status)
        return queue

    with closing(UpstashQueue(NAME, url, "t", lease=LEASE)) as queue:
        yield with_answer


@pytest.mark.parametrize(
    "text",
    [
        "ERR max requests limit exceeded. Limit: 500000, Usage: 500000. See the documentation for details",
        "ERR max daily request limit exceeded. Limit: 10000, Usage: 10000.",
    ],
)
def test_a_used_up_plan_asks_for_a_long_pause(answering: Answering, text: str) -> None:
    error = failure(answering(400, {"error": text}))
    assert error.retry_after is not None
    assert error.retry_after >= 60


def test_a_token_without_the_right_to_write_is_denied(answering: Answering) -> None:
    assert failure(answering(400, {"error": "NOPERM this user has no permissions to run the 'evalsha' command"})).denied


@pytest.mark.parametrize("text", ["ERR syntax", "LOADING redis is loading", "READONLY", "OOM command not allowed", " "])
def test_any_other_error_of_redis_is_a_failure(answering: Answering, text: str) -> None:
    assert not failure(answering(400, {"error": text})).denied


def test_an_error_that_quotes_the_command_is_not_repeated(answering: Answering) -> None:
    error = failure(answering(400, {"error": 'ERR bad, command was: ["SET","a red bicycle"]'}))
    assert "bicycle" not in str(error)
    assert error.__suppress_context__


SK9C = "Sk9C"  # "JOB" in base64
ODD_ANSWERS = [None, 5, "text", [], {}, {"result": None}, {"result": []}, {"result": 0}, {"result": "no base64!"}]
ODD_ANSWERS += [{"result": [SK9C]}, {"result": [SK9C, 0, 0, -1]}, {"result": ["Tk9ORQ=="]}, {"result": {}}]


@pytest.mark.parametrize("answer", ODD_ANSWERS)
def test_an_answer_of_another_form_is_never_taken_for_an_empty_queue(answering: Answering, answer: Any) -> None:
    failure(answering(200, answer))


@pytest.mark.parametrize("answer", [{"result": None}, {"result": "MQ=="}, {"result": []}])
def test_nor_for_a_lost_claim(answering: Answering, answer: Any) -> None:
    queue = answering(200, answer)
    for call in (lambda: queue.ack("a", None), lambda: queue.beat([Beat("a")]), queue.waiting):
        with pytest.raises(Unreachable):
            call()
