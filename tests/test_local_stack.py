"""The parts of the local stack can be killed, started again and made to fail, and leave nothing running behind them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import RunningGateway, delete, get, post, wait_until

from workers.local.redis import RedisServer
from workers.local.stack import LocalStack

ROOT = Path(__file__).parent.parent


def ping(gateway: RunningGateway, timeout: float = 60.0) -> httpx.Response:
    headers = {"Authorization": f"Bearer {gateway.token}"}
    return post(gateway.url, json=["INCR", "pings"], headers=headers, timeout=timeout)


def pings(gateway: RunningGateway) -> int:
    headers = {"Authorization": f"Bearer {gateway.token}"}
    return int(get(f"{gateway.url}/get/pings", headers=headers).json()["result"] or 0)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# Redis


def test_an_acknowledged_write_survives_a_kill(own_gateway: RunningGateway) -> None:
    assert ping(own_gateway).json() == {"result": 1}
    own_gateway.redis.kill()
    assert ping(own_gateway).status_code == 503
    own_gateway.redis.start()
    assert ping(own_gateway).json() == {"result": 2}


def test_redis_without_persistence_comes_back_empty() -> None:
    with RedisServer() as redis:
        assert redis.send("SET lamp lit") == b"+OK"
        redis.kill()
        redis.start()
        assert redis.send("GET lamp") == b"$-1"


def test_redis_dies_with_the_process_that_started_it() -> None:
    code = "from workers.local.redis import RedisServer; r = RedisServer().start(); print(r.pid, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        redis = int(parent.stdout.readline())
        assert runs(redis)
        parent.kill()
        wait_until(lambda: not runs(redis))


# Faults


def test_a_lost_request_is_not_handled(gateway: RunningGateway) -> None:
    gateway.faults.add("lost_request", count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        ping(gateway)
    assert pings(gateway) == 0


def test_a_lost_reply_is_handled(gateway: RunningGateway) -> None:
    gateway.faults.add("lost_reply", count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        ping(gateway)
    assert pings(gateway) == 1


def test_a_hanging_request_is_neither_answered_nor_handled(gateway: RunningGateway) -> None:
    gateway.faults.add("hang", count=1, seconds=600)
    with pytest.raises(httpx.ReadTimeout):
        ping(gateway, timeout=0.1)
    assert pings(gateway) == 0


def test_a_hang_ends_with_a_cut_connection(gateway: RunningGateway) -> None:
    gateway.faults.add("hang", count=1, seconds=0.05)
    with pytest.raises(httpx.RemoteProtocolError):
        ping(gateway)


def test_latency_delays_the_answer(gateway: RunningGateway) -> None:
    gateway.faults.add("latency", count=1, seconds=0.1)
    started = time.monotonic()
    assert ping(gateway).status_code == 200
    assert time.monotonic() - started >= 0.1


def test_an_error_may_say_when_to_come_back(gateway: RunningGateway) -> None:
    gateway.faults.add("error", count=1, status=429, retry_after=7)
    refused = ping(gateway)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert ping(gateway).status_code == 200


def test_an_error_may_be_a_page_as_proxies_send_it(gateway: RunningGateway) -> None:
    gateway.faults.add("error", count=1, status=502, html=True)
    assert ping(gateway).text.startswith("<html>")


def test_a_fault_strikes_the_requests_it_describes(gateway: RunningGateway) -> None:
    fault = gateway.faults.add("error", path="/", contains='"INCR"', skip=1, count=2)
    assert [ping(gateway).status_code for _ in range(4)] == [200, 503, 503, 200]
    assert (pings(gateway), fault.struck) == (2, 2)


def test_the_same_seed_gives_the_same_faults(gateway: RunningGateway) -> None:
    def answers() -> list[int]:
        gateway.faults.clear(seed=7)
        gateway.faults.add("error", rate=0.5)
        return [ping(gateway).status_code for _ in range(8)]

    first = answers()
    assert first == answers()
    assert set(first) == {200, 503}


def test_faults_are_switched_over_http(gateway: RunningGateway) -> None:
    address = f"{gateway.url}/_faults"
    assert post(address, json={"kind": "error", "status": 500}).status_code == 200
    assert ping(gateway).status_code == 500
    assert get(address).json()[0]["struck"] == 1
    assert delete(address).json() == []
    assert ping(gateway).status_code == 200


@pytest.mark.parametrize("body", [{}, {"kind": "flood"}, {"kind": "error", "colour": 1}, []])
def test_what_is_no_fault_is_refused(gateway: RunningGateway, body: object) -> None:
    assert post(f"{gateway.url}/_faults", json=body).status_code == 400


def test_the_double_fails_on_demand_too(stack: LocalStack) -> None:
    stack.double_faults.add("error", path="/functions/v1/queue-job", count=1)
    with pytest.raises(httpx.HTTPStatusError):
        stack.submit("image_fast", "a red bicycle")
    assert stack.jobs() == []


# The stack as a process


def start_stack(*options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "workers.local", "--format", "json", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


@pytest.fixture
def stack_process() -> Iterator[subprocess.Popen[bytes]]:
    with start_stack() as process:
        yield process
        process.kill()


def environment(process: subprocess.Popen[bytes]) -> dict[str, str]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_process_prints_the_environment_and_ends_on_a_signal(
    stack_process: subprocess.Popen[bytes], ending: signal.Signals
) -> None:
    variables = environment(stack_process)
    assert {"SUPABASE_URL", "SUPABASE_SERVICE_KEY", "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"} <= set(
        variables
    )
    assert get(f"{variables['SUPABASE_URL']}/_double/callbacks").status_code == 200
    (redis,) = children(stack_process.pid)
    stack_process.send_signal(ending)
    assert stack_process.wait(60) == 0
    assert not runs(redis)


def test_the_process_ends_with_its_parent() -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'workers.local'], stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        stack = int(parent.stdout.readline())
        (redis,) = children(stack)
        parent.kill()
        wait_until(lambda: not runs(stack) and not runs(redis))


def test_nothing_of_the_stack_is_reachable_from_outside(stack_process: subprocess.Popen[bytes]) -> None:
    environment(stack_process)
    listening = {line.split()[1].split(":")[0] for line in listeners(stack_process.pid)}
    assert listening == {"0100007F"}


def listeners(pid: int) -> list[str]:
    """Lines of the kernel's table for listening sockets of a process and its children."""
    descriptors = [os.readlink(fd) for owner in (pid, *children(pid)) for fd in Path(f"/proc/{owner}/fd").iterdir()]
    inodes = {match.group(1) for text in descriptors if (match := re.fullmatch(r"socket:\[(\d+)\]", text))}
    tables = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [line for line in tables if line.split()[3] == "0A" and line.split()[9] in inodes]
