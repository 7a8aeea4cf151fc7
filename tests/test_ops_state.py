"""What operators see right now: live state, and the time that jobs have left."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from ops_support import entry

from workers import estimates, records
from workers.claim import Sight
from workers.estimates import Estimates, learn
from workers.ops.board import SILENT, STUCK, Board
from workers.ops.meter import Meter
from workers.ops.odometer import Odometer
from workers.supervision import heartbeat
from workers.supervision.heartbeat import Heartbeat
from workers.supervision.keeper import View
from workers.supervision.slot import State
from workers.watch import ORDER, Watch

ROOT = Path(__file__).resolve().parent.parent


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def beat(clock: Clock, **fields) -> Heartbeat:
    given = {"generation": 1, "pid": 7, "phase": "idle", "deadline": clock.now + 60, "monotonic": clock.now}
    return Heartbeat(**{**given, **fields})


def view(state: State = State.RUNNING, sign: Heartbeat | None = None, name: str = "wan") -> View:
    return View(name, state, 7, state is State.RUNNING, 3.0, None, 0, False, sign)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board({"wan": "wan_queue"}, clock)


def test_a_count_goes_on_over_deaths_and_midnights():
    odometer = Odometer()
    readings = [(1, 5.0), (1, 8.0), (2, 3.0), (2, 1.0), (2, 4.0)]
    assert [odometer.read(life, reading) for life, reading in readings] == [5, 8, 11, 12, 15]


def test_before_the_first_look_workers_are_on_their_way(board):
    assert (board.workers()[0].state, board.loading, board.problems()) == (
        "starting",
        True,
        ["The wan worker is starting."],
    )


def test_a_worker_is_ready_that_runs_and_says_so(board, clock):
    board.see([view(sign=beat(clock))])
    assert (board.problems(), board.workers()[0].ready) == ([], True)


@pytest.mark.parametrize(
    ("state", "sign", "said", "loading"),
    [
        (State.STARTING, {"phase": "load"}, "starting", True),
        (State.BACKING_OFF, None, "backing off", True),
        (State.BREAKER_OPEN, None, "breaker open", False),
        (State.DRAINING, {}, "draining", False),
        (State.RUNNING, {"phase": "unready"}, "unable to work", False),
        (State.RUNNING, {"monotonic": 1000.0 - SILENT - 1}, "silent", False),
        (State.RUNNING, None, "silent", False),
    ],
)
def test_the_board_says_why_a_worker_is_not_ready_and_whether_it_will_be(board, clock, state, sign, said, loading):
    board.see([view(state, None if sign is None else beat(clock, **sign))])
    assert (board.problems(), board.loading) == ([f"The wan worker is {said}."], loading)


def test_a_supervisor_that_does_not_look_any_more_is_stuck(board, clock):
    board.see([view(sign=beat(clock))])
    clock.now += STUCK + 1
    assert board.stuck
    assert not board.loading
    assert "The supervisor does not answer." in board.problems()


def test_what_a_dead_worker_did_still_counts_and_what_it_saw_is_still_known(board, clock):
    board.see([view(sign=beat(clock, done=3, commands=10, busy=4.0, waiting=5, oldest=None, seen=clock.now))])
    board.see([view(State.BACKING_OFF)])
    clock.now += 10
    board.see([view(sign=beat(clock, pid=8, done=1, commands=2, busy=1.0))])
    sums = board.sums["wan"]
    assert (sums.done.total, sums.commands.total, sums.busy.total) == (4, 12, 5.0)
    assert (board.queues()[0].waiting, board.queues()[0].age) == (5, 10.0)


def test_the_newest_look_at_a_queue_counts(board, clock):
    board.sighted("wan", Sight(9, None, clock.now))
    board.sighted("wan", Sight(4, None, clock.now - 5))
    assert board.queues()[0].waiting == 9


def test_the_idle_share_is_what_no_worker_had_the_card_for(board, clock):
    for second in range(11):
        board.see([view(sign=beat(clock, busy=second * 0.75))])
        clock.now += 1
    assert board.idle_share(60) == 0.25


def test_two_workers_on_cores_of_their_own_leave_no_negative_idle_share(clock):
    board = Board({"sdxl": "sdxl_queue", "wan": "wan_queue"}, clock)
    for second in range(3):
        board.see([view(sign=beat(clock, busy=float(second)), name=kind) for kind in ("sdxl", "wan")])
        clock.now += 1
    assert board.idle_share(60) == 0.0


def test_a_jobs_idle_share_is_that_of_the_time_since_the_one_before(clock):
    busy, others = [0.0], [(1, 100.0)]
    meter = Meter(busy=lambda: busy[0], others=lambda: others, peak=lambda: 5, memory=lambda: 6, clock=clock)
    clock.now, busy[0], others[0] = clock.now + 10, 4.0, (1, 103.0)
    assert meter() == {"idle_share": 0.3, "memory": {"card_peak": 5, "host": 6}}
    clock.now, others[0] = clock.now + 10, (2, 5.0)  # the other worker died and came back
    assert meter()["idle_share"] == 0.5


def test_other_workers_are_read_from_their_signs_of_life(tmp_path, clock):
    from workers.ops.meter import beats_of

    heartbeat.write(tmp_path / "wan.heartbeat", beat(clock, busy=3.0))
    assert list(beats_of([tmp_path / "wan.heartbeat", tmp_path / "sdxl.heartbeat"])) == [(7, 3.0), (None, 0.0)]


def test_estimates_are_medians_of_the_last_completed_jobs(tmp_path):
    old = [entry(timings={"denoise": 100.0})] * 50
    new = [entry(timings={"denoise": seconds}) for seconds in (1.0, 2.0, 9.0)] * 7
    learned = learn([*old, *new, entry(status="failed", timings={"denoise": 500.0})])
    assert learned["image_fast"]["denoise"] == 2.0
    known = Estimates(tmp_path / estimates.FILE)
    assert known("image_fast") == {}
    records.write(tmp_path / estimates.FILE, learned)
    assert known("image_fast") == learned["image_fast"]
    assert known("video_fast") == {}


def test_an_estimate_is_read_again_when_it_changed_and_kept_when_it_is_torn(tmp_path):
    path = tmp_path / estimates.FILE
    known = Estimates(path)
    for stamp, text, expected in (
        (1, '{"a": {"denoise": 1.0}}', 1.0),
        (2, "{", 1.0),
        (3, '{"a": {"denoise": 3.0}}', 3.0),
    ):
        path.write_text(text)
        os.utime(path, (stamp, stamp))
        assert known("a") == {"denoise": expected}


def test_a_watch_counts_down_by_what_such_jobs_take_and_then_by_its_own_pace(clock):
    watch = Watch(clock)
    assert watch.left is None
    watch.expected = {"denoise": 10.0, "decode": 2.0, "upload": 1.0}
    assert watch.left == 13.0
    with watch.phase("denoise"):
        clock.now += 4
        assert watch.left == 9.0
        watch.step(1, 5)  # four seconds a step: slower than usual
        assert watch.left == 16.0 + 3.0
        assert watch.share == pytest.approx(4 / 23)
        clock.now += 16
    assert watch.left == 3.0
    with watch.phase("upload"):
        clock.now += 5
        assert watch.left == 0.0


def test_who_goes_on_with_a_job_knows_what_was_expected_of_it(clock):
    watch = Watch(clock)
    watch.expected = {"denoise": 10.0, "upload": 1.0}
    with watch.phase("denoise"):
        clock.now += 10
    assert watch.successor().left == 1.0


def test_every_phase_of_a_job_has_its_place_in_the_order_and_those_of_loading_have_none():
    calls = "\n".join(file.read_text() for file in (ROOT / "workers").rglob("*.py"))
    named = set(re.findall(r'\.phase\("(\w+)"\)', calls))
    assert set(ORDER) == named - {"load", "warm_up", "convert"}
