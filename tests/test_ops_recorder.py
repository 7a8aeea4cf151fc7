"""What the recorder writes down each second and each minute, and what it does when it cannot."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from ops_support import entry

from workers import estimates
from workers.claim import Sight
from workers.errors import Unreachable
from workers.ops import recorder as recording
from workers.ops.board import Board
from workers.ops.feed import Feed
from workers.ops.history import Archive, Ring
from workers.ops.recorder import Books, Recorder
from workers.ops.terms import terms_of
from workers.settings import Settings
from workers.supervision import ledger
from workers.supervision.heartbeat import Heartbeat
from workers.supervision.keeper import View
from workers.supervision.slot import State
from workers.tables import load_presets


def unseen(_kind: str) -> Sight:
    raise Unreachable("no answer")


class Clock:
    now = 60_000_000.0


class World:
    """A recorder whose minutes pass when they are told to."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        given = {"supabase_url": "https://a.b", "supabase_service_key": "k", "upstash_redis_rest_url": "https://a.b"}
        settings = Settings(_env_file=None, upstash_redis_rest_token="t", ops_dir=folder, **given)
        self.folder, self.heard, self.clock = folder, Feed(), clock
        self.board = Board({"wan": "wan_queue"})
        self.archive, self.ring = Archive(folder / "jobs"), Ring(folder / "ring")
        terms = terms_of(settings, load_presets())
        self.recorder = Recorder(Books(terms, self.board, self.archive, self.ring, self.heard), folder, look=unseen)

    def ended(self, **fields) -> None:
        ledger.writer(self.folder / ledger.FOLDER, "wan")(entry(**fields))

    def beat(self, **fields) -> None:
        now = time.monotonic()
        sign = Heartbeat(1, 7, "idle", now + 60, now, **fields)
        self.board.see([View("wan", State.RUNNING, 7, True, 1.0, None, 0, False, sign)])

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    def rows(self) -> list:
        return self.ring.read(self.clock.now - 600, self.clock.now)


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    clock = Clock()
    monkeypatch.setattr(Recorder, "_now_minute", lambda _: int(clock.now) // 60)
    return World(tmp_path, clock)


def test_a_minute_is_closed_with_what_happened_in_it(world):
    world.beat(busy=1.0, commands=10, waiting=4, seen=time.monotonic())
    world.recorder.tick()
    world.pass_time(60)
    world.recorder.tick()
    world.ended()
    world.ended(status="failed", error_type="failed")
    world.recorder.tick()
    world.beat(busy=4.0, commands=16, waiting=2, seen=time.monotonic())
    world.pass_time(60)
    world.recorder.tick()
    row = world.rows()[-1]
    assert row["jobs"] == {"image_fast": [1.0, 1.0, 5.0, 2.0, 4.0]}
    assert (row["busy"], row["commands"], row["ready"], row["queues"]) == ({"wan": 3.0}, 6, 1, {"wan": [2, None]})
    assert row["t"] == 60_000_060


def test_jobs_are_known_and_estimates_learned_as_soon_as_a_job_has_ended(world):
    world.ended(timings={"denoise": 7.0})
    world.recorder.tick()
    assert [each.job for each in world.archive.entries()] == ["a-job"]
    assert json.loads((world.folder / estimates.FILE).read_text())["image_fast"]["denoise"] == 7.0


def test_open_pages_hear_of_a_job_and_of_how_its_type_does_when_it_ends(world):
    page = world.heard.subscribe(b"")
    next(page)
    world.ended(status="failed")
    world.recorder.tick()
    ended, judged = next(page).decode(), next(page).decode()
    assert ended.startswith("event: job\n")
    types = json.loads(judged.removeprefix("event: types\ndata: "))["types"]
    assert {row["type"]: row["failed"] for row in types}["image_fast"] == 1


def test_a_queue_that_no_worker_sees_is_looked_at_once_a_minute(tmp_path, world, monkeypatch):
    asked = []
    look = lambda kind: asked.append(kind) or Sight(9, None, time.monotonic())  # noqa: E731
    monkeypatch.setattr(world.recorder, "_look", look)
    for seconds in (0, 20, 45, 1):
        world.pass_time(seconds)
        world.recorder.tick()
    assert (asked, world.board.queues()[0].waiting) == (["wan"], 9)


def test_a_queue_that_a_worker_sees_is_left_alone(world, monkeypatch):
    monkeypatch.setattr(world.recorder, "_look", lambda kind: pytest.fail("asked"))
    world.beat(waiting=4, seen=time.monotonic())
    world.pass_time(60)
    world.recorder.tick()


def test_a_queue_that_does_not_answer_costs_nothing_else(world):
    world.pass_time(60)
    world.recorder.tick()
    assert world.rows()[-1]["queues"] == {"wan": [None, None]}


def test_a_full_disk_costs_history_and_is_said_once(world, monkeypatch):
    said = []
    monkeypatch.setattr(recording.log, "warning", lambda name, **_: said.append(name))
    monkeypatch.setattr(world.ring, "write", lambda row: (_ for _ in ()).throw(OSError(28, "No space left")))
    failing = False
    for _ in range(3):
        world.pass_time(60)
        failing = not world.recorder._attempt(world.recorder.tick, failing)
    assert (failing, said) == (True, ["history not kept"])


def test_what_ended_last_is_kept_when_the_supervisor_goes(world):
    world.recorder.start()
    world.ended()
    world.recorder.stop()
    assert [each.job for each in Archive(world.folder / "jobs").entries()] == ["a-job"]
