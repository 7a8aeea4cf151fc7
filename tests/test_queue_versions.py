"""Workers of two releases share a queue while one follows the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import valkey
from hypothesis.stateful import run_state_machine_as_test
from queue_bench import LEASE, NAME, SocketConnection, claimed, connect, id_of, job, run_down, socket_queue
from test_queue_machine import EXAMPLES, QueueMachine, chosen_settings

from workers.delivery.outbox import RECORD, Outbox, Sealed
from workers.delivery.report import Report
from workers.errors import Misconfigured
from workers.job import Artifact, Delivery, Outcome
from workers.local.redis import RedisServer
from workers.queue import scripts
from workers.queue.upstash import UpstashQueue
from workers.supervision import heartbeat
from workers.supervision.heartbeat import Heartbeat

FIRST_CLAIM = (Path(__file__).parent / "predecessor" / "claim.lua").read_text()
FIRST_KEYS = 8


class Predecessor(SocketConnection):
    """The first release's workers: they claim first in first out, and know neither pausing nor cancelling."""

    def execute(self, command: Sequence[str | int]) -> Any:
        if command[1] != scripts.digest("claim"):
            return super().execute(command)
        _, _, count, *rest = command
        keys, (token, lease, now, end, _) = rest[:FIRST_KEYS], rest[int(count) :]
        status, *reply = super().execute(("EVAL", FIRST_CLAIM, FIRST_KEYS, *keys, token, lease, now, end))
        return [status] if status == "STALE" else [status, reply[0], -1, *reply[1:3], [], *reply[3:]]


class Mixed:
    """Every call goes to the worker whose turn it is."""

    def __init__(self, *queues: UpstashQueue) -> None:
        self._queues, self._turn = queues, 0

    def __getattr__(self, name: str) -> Any:
        self._turn += 1
        return getattr(self._queues[self._turn % len(self._queues)], name)


def predecessor(redis: valkey.Valkey) -> UpstashQueue:
    return UpstashQueue(NAME, "", "", lease=LEASE, connection=Predecessor(redis))


def test_no_sequence_of_events_among_two_releases_loses_or_doubles_a_job(redis_server: RedisServer) -> None:
    with connect(redis_server.port) as redis:
        mixed: Any = lambda: Mixed(socket_queue(redis), predecessor(redis))  # noqa: E731
        run_state_machine_as_test(
            lambda: QueueMachine(redis, mixed()), settings=chosen_settings(max(60, EXAMPLES // 10))
        )


def test_a_job_of_one_release_is_taken_over_by_the_other(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    older, body = predecessor(redis), job()
    older.push(body)
    assert direct.remember(claimed(older, "a").token, id_of(body), {"assets": []})
    run_down(redis, LEASE + 1)
    claim = claimed(direct, "b")
    assert (claim.body, claim.attempt, claim.crashes, claim.result) == (body, 2, 1, {"assets": [], "delivered": False})
    direct.release("b", counted=False)
    assert claimed(older).fence > claim.fence


def test_both_releases_pass_the_check_of_one_schema_and_a_later_one_is_refused(
    redis: valkey.Valkey, direct: UpstashQueue
) -> None:
    direct.check()
    predecessor(redis).check()
    redis.set("queue:schema", "2")
    with pytest.raises(Misconfigured, match="schema 2"):
        direct.check()


def test_what_a_later_release_adds_to_redis_is_ignored(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    body = job()
    direct.push(body)
    direct.remember(claimed(direct, "a").token, id_of(body), {"assets": [], "invented": 1})
    redis.hset(f"{NAME}:result:{id_of(body)}", "invented", "1")
    redis.set(f"{NAME}:invented", "1")
    direct.release("a", counted=True)
    assert claimed(direct, "b").result == {"assets": [], "invented": 1, "delivered": False}
    direct.bury("b", "given up", id_of(body))
    header, _, rest = redis.lindex(f"{NAME}:dead", 0).decode().partition("\n")
    redis.lset(f"{NAME}:dead", 0, json.dumps({**json.loads(header), "invented": 1}) + "\n" + rest)
    assert direct.dead()[0].job_id == id_of(body)


def delivery() -> Delivery:
    return Delivery(0, "image_fast", "u/j/0.png", "image/png", (480, 832), 1, seed=7, bytes=100)


def test_a_report_with_more_than_this_release_knows_is_read() -> None:
    report = Report(Outcome("j", "image_fast", "completed", (delivery(),)), "u", failures=2)
    record = json.loads(json.dumps(report.record()))
    record["invented"] = record["outcome"]["invented"] = record["outcome"]["deliveries"][0]["invented"] = 1
    assert Report.from_record(record) == report


def test_a_report_with_less_than_this_release_knows_is_read_where_it_can_be() -> None:
    report = Report(Outcome("j", "image_fast", "completed", (delivery(),)), "u")
    record = json.loads(json.dumps(report.record()))
    del record["bury"], record["accepted"], record["outcome"]["metadata"], record["outcome"]["enhanced_prompt"]
    assert Report.from_record(record) == report


def test_an_outbox_folder_with_more_than_this_release_knows_is_read(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    staged = outbox.stage("token")
    (staged / "0.png").write_bytes(b"pixels")
    artifact = Artifact(0, staged / "0.png", "image/png", (480, 832), 1, seed=7)
    sealed = outbox.seal(staged, Sealed(staged, "j", "image_fast", "u", (artifact,)))
    record = json.loads((sealed.folder / RECORD).read_text())
    record["invented"] = record["artifacts"][0]["invented"] = 1
    (sealed.folder / RECORD).write_text(json.dumps(record))
    assert outbox.find("j") == sealed


def test_a_heartbeat_with_more_than_this_release_knows_is_read(tmp_path: Path) -> None:
    beat = Heartbeat(1, pid=2, phase="idle", deadline=0.0, monotonic=0.0)
    heartbeat.write(tmp_path / "a", beat)
    record = json.loads((tmp_path / "a").read_text()) | {"invented": 1}
    (tmp_path / "a").write_text(json.dumps(record))
    assert heartbeat.read(tmp_path / "a") == beat
