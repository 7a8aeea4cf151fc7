"""Supervision: first the life of a slot as a table, then real processes, real signals, real deaths."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from workers.supervision import heartbeat, process
from workers.supervision.heartbeat import Heartbeat
from workers.supervision.slot import Exited, Pace, Ready, Spawned, Standing, State, Stopping, next_state

HERE = Path(__file__).parent
PACE = Pace()
HEALTHY = PACE.healthy + 1


def living(state: State = State.RUNNING, **fields) -> Standing:
    return Standing(state=state, due=None, starts=1, **fields)


def after(slot: Standing, *events, now: float = 100.0) -> Standing:
    for event in events:
        slot = next_state(slot, event, now, PACE)
    return slot


def crash_of(slot: Standing, now: float, code: int = -9) -> Standing:
    return after(slot, Spawned(), Ready(), Exited(code), now=now)


def test_a_new_slot_is_due_at_once():
    assert Standing().due == 0.0


def test_a_worker_runs_once_its_weights_are_loaded():
    assert after(Standing(), Spawned()).state is State.STARTING
    assert after(Standing(), Spawned(), Ready()).state is State.RUNNING


def test_crashes_wait_longer_and_longer():
    slot, waits = replace(Standing(), crashed=()), []
    for turn in range(9):
        slot = replace(crash_of(slot, now=1000.0 * turn), tripped=False)
        waits.append(slot.due - 1000.0 * turn)
    assert waits == [1, 2, 5, 10, 30, 60, 120, 120, 120]


def test_jitter_adds_at_most_a_fifth_to_the_wait():
    waits = [after(living(failures=3), Exited(70, luck=luck), now=0.0).due for luck in (0.0, 0.5, 1.0)]
    assert waits == [10, 11, 12]


def test_the_fifth_crash_within_ten_minutes_opens_the_breaker():
    slot, states = Standing(), []
    for turn in range(5):
        slot = crash_of(slot, now=100.0 * turn)
        states.append(slot.state)
    assert states == [State.BACKING_OFF] * 4 + [State.BREAKER_OPEN]
    assert slot.due == 400 + 600


def test_five_crashes_over_a_longer_time_do_not_open_the_breaker():
    slot = Standing()
    for turn in range(5):
        slot = crash_of(slot, now=151.0 * turn)
    assert slot.state is State.BACKING_OFF


def test_a_crash_after_an_open_breaker_opens_it_again():
    slot = crash_of(living(tripped=True), now=5000.0)
    assert (slot.state, slot.due) == (State.BREAKER_OPEN, 5600)


def test_health_and_a_finished_job_forget_former_crashes():
    slot = living(failures=4, tripped=True, crashed=(1.0, 2.0, 3.0, 4.0))
    slot = after(slot, Exited(70, done=1), now=HEALTHY)
    assert (slot.state, slot.due, slot.tripped) == (State.BACKING_OFF, HEALTHY + 1, False)


@pytest.mark.parametrize(("now", "done"), [(HEALTHY, 0), (PACE.healthy - 1, 3)])
def test_neither_time_nor_a_job_alone_is_health(now, done):
    slot = after(living(failures=3), Exited(70, done=done), now=now)
    assert slot.due == now + 10


@pytest.mark.parametrize("code", [1, 64, 73])
def test_what_only_people_can_mend_goes_straight_to_the_long_wait(code):
    slot = after(living(State.STARTING), Exited(code))
    assert (slot.state, slot.due, slot.misconfigured) == (State.BREAKER_OPEN, 700, True)
    assert not after(slot, Spawned(), Ready()).misconfigured


def test_an_exit_with_1_after_loading_is_a_crash():
    assert after(living(), Exited(1)).state is State.BACKING_OFF


@pytest.mark.parametrize("code", [2, 70, 71, 72, -9, -11])
def test_every_other_end_is_a_crash(code):
    slot = after(living(), Exited(code))
    assert (slot.state, len(slot.crashed)) == (State.BACKING_OFF, 1)


def test_an_unreachable_queue_backs_off_but_never_opens_the_breaker():
    slot = Standing()
    for turn in range(20):
        slot = crash_of(slot, now=1.0 * turn, code=75)
    assert (slot.state, slot.due - 19, slot.crashed) == (State.BACKING_OFF, 120, ())


def test_a_worker_that_recycles_itself_is_replaced_at_once():
    slot = after(living(), Exited(0, done=7))
    assert (slot.state, slot.due, slot.failures) == (State.BACKING_OFF, 100, 0)


def test_a_worker_that_leaves_without_a_job_is_no_endless_loop():
    assert len(after(living(), Exited(0, done=0)).crashed) == 1


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING])
@pytest.mark.parametrize("code", [0, 1, 70, -9])
def test_a_draining_worker_stops_whatever_its_code(state, code):
    draining = after(living(state), Stopping())
    assert draining.state is State.DRAINING
    assert after(draining, Exited(code)) == replace(draining, state=State.STOPPED)


@pytest.mark.parametrize("state", [State.BACKING_OFF, State.BREAKER_OPEN, State.STOPPED])
def test_a_slot_without_a_worker_stops_at_once(state):
    slot = after(Standing(state=state), Stopping())
    assert (slot.state, slot.due) == (State.STOPPED, None)


def test_asking_again_does_not_begin_the_drain_anew():
    draining = after(living(), Stopping(), now=10.0)
    assert after(draining, Stopping(), Ready(), now=20.0) == draining


def test_no_sequence_of_events_leaves_the_table():
    dice = random.Random(4)  # a seed, so that a failure can be repeated
    slot = Standing()
    for turn in range(5000):
        event = dice.choice([Spawned(), Ready(), Exited(dice.choice([0, 1, 70, 75, -9]), dice.randrange(2))])
        slot = next_state(slot, event, turn * 7.0, PACE)
        waits = slot.state in (State.BACKING_OFF, State.BREAKER_OPEN)
        assert waits == (slot.due is not None)


class Run:
    """A supervisor in its own process, with its log and its workers' journal."""

    def __init__(self, folder: Path, behaviours: dict[str, str], *, argv=None, only=None, broken=False, **pace) -> None:
        self.folder, self.pace = folder, {"backoff": [0.05], "jitter": 0.0, "tick": 0.02, "first_beat": 60.0, **pace}
        order = {"slots": behaviours, "pace": self.pace, "run_dir": str(folder), "only": only}
        self.log = folder / f"log-{time.monotonic_ns()}"
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, HERE / "children/supervise.py", json.dumps({**order, "argv": argv, "broken": broken})],
                stdout=output,
                env={**os.environ, "JOURNAL": str(folder / "journal"), "PYTHONPATH": str(HERE.parent)},
            )

    def events(self, name: str) -> list[dict]:
        finished, _, _ = self.log.read_text().rpartition("\n")
        return [line for line in map(json.loads, finished.splitlines()) if line["event"] == name]

    def journal(self, what: str) -> list[int]:
        """The pids that wrote this line."""
        path = self.folder / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(line.split()[-1]) for line in lines if what in line]

    def wait_for(self, what: str, times: int = 1) -> None:
        wait_until(lambda: len(self.journal(what)) >= times, f"{times} × {what} in {self.folder}")

    def wait_for_event(self, name: str, times: int = 1) -> dict:
        wait_until(lambda: len(self.events(name)) >= times, f"{times} × {name}")
        return self.events(name)[-1]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.process.wait(60)

    def clean_up(self) -> None:
        self.process.kill()
        self.process.wait()
        for pid in self.journal(""):
            process.send_group(pid, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], what: str, limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Dead, or a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def run(tmp_path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(behaviours: dict[str, str], **order) -> Run:
        runs.append(Run(tmp_path, behaviours, **order))
        return runs[-1]

    yield start
    for each in runs:
        each.clean_up()
    assert not runs[0].journal("SECOND COPY")


BOTH = {"sdxl": "obedient", "wan": "obedient"}
ring2 = pytest.mark.ring2


@ring2
def test_a_signal_drains_both_workers(run):
    supervisor = run(BOTH)
    supervisor.wait_for("ready", 2)
    assert supervisor.end() == 0
    assert len(supervisor.journal("drained")) == 2
    assert not list(supervisor.folder.glob("*.heartbeat"))


@ring2
def test_ctrl_c_is_the_same_as_a_signal(run):
    supervisor = run(BOTH)
    supervisor.wait_for("ready", 2)
    assert supervisor.end(signal.SIGINT) == 0
    assert len(supervisor.journal("drained")) == 2


@ring2
def test_a_killed_worker_is_started_again_and_its_leases_end(run):
    supervisor = run({"wan": "obedient"})
    supervisor.wait_for_event("worker ready")
    os.kill(supervisor.journal("ready")[0], signal.SIGKILL)
    supervisor.wait_for("ready", 2)
    assert supervisor.events("leases end")[0]["claims"] == ["wan-claim"]
    assert supervisor.events("worker ended")[0]["meaning"] == "SIGKILL"
    assert supervisor.end() == 0


@ring2
def test_a_crash_loop_opens_the_breaker_on_the_fifth_crash_and_the_other_worker_goes_on(run):
    supervisor = run({"sdxl": "70", "wan": "obedient"}, retry=60)
    supervisor.wait_for("sdxl started", 5)
    supervisor.wait_for_event("worker ended", 5)
    ends = [event["next"] for event in supervisor.events("worker ended")]
    assert ends == ["backing off"] * 4 + ["breaker open"]
    supervisor.wait_for("wan ready")
    assert supervisor.end() == 0
    assert len(supervisor.journal("sdxl started")) == 5


@ring2
def test_an_open_breaker_is_tried_again(run):
    supervisor = run({"sdxl": "70"}, retry=0.3)
    supervisor.wait_for("sdxl started", 6)
    assert supervisor.end() == 0


@ring2
@pytest.mark.parametrize(("behaviour", "first_beat"), [("hangs", 60.0), ("silent", 2.0)])
def test_a_worker_without_progress_is_killed_and_replaced(run, behaviour, first_beat):
    supervisor = run({"wan": behaviour}, first_beat=first_beat)
    supervisor.wait_for("started", 2)
    assert supervisor.events("killing worker")[0]["reason"] == "no progress"
    supervisor.wait_for_event("worker ended")


@ring2
def test_what_a_worker_leaves_behind_in_its_group_is_ended_with_it(run):
    supervisor = run({"wan": "with_offspring"}, retry=60)
    supervisor.wait_for_event("worker ended")
    offspring = supervisor.journal("offspring")[0]
    wait_until(lambda: is_gone(offspring), "end of the offspring")


@ring2
def test_a_second_signal_reaches_the_workers(run):
    supervisor = run({"sdxl": "twice", "wan": "twice"})
    supervisor.wait_for("ready", 2)
    supervisor.send(signal.SIGTERM)
    supervisor.wait_for("draining", 2)
    assert supervisor.end() == 0
    assert len(supervisor.journal("released")) == 2


@ring2
def test_a_storm_of_signals_ends_cleanly(run):
    supervisor = run({"sdxl": "twice", "wan": "obedient"})
    supervisor.wait_for("ready", 2)
    while supervisor.process.poll() is None:
        supervisor.send(signal.SIGTERM)
        time.sleep(0.005)
    assert supervisor.process.returncode == 0
    assert (len(supervisor.journal("released")), len(supervisor.journal("drained"))) == (1, 1)


@ring2
def test_a_signal_while_loading_stops_the_load(run):
    supervisor = run({"sdxl": "loading", "wan": "loading"})
    supervisor.wait_for("ready", 2)
    assert supervisor.end() == 0
    assert not supervisor.events("worker ready")


@ring2
def test_a_signal_before_a_worker_can_hear_ends_it_too(run):
    supervisor = run(BOTH)
    supervisor.wait_for_event("worker started", 2)
    assert supervisor.end() == 0


@ring2
def test_a_worker_that_will_not_drain_is_killed_after_the_grace(run):
    supervisor = run({"wan": "deaf"}, drain=0.2, margin=0.1)
    supervisor.wait_for("ready")
    assert supervisor.end() == 72
    assert supervisor.events("killing worker")[0]["reason"] == "did not drain in time"


@ring2
@pytest.mark.parametrize("behaviour", ["obedient", "loading", "silent"])
def test_workers_of_a_killed_supervisor_are_soon_gone_too(run, behaviour):
    supervisor = run({"sdxl": behaviour, "wan": behaviour})
    supervisor.wait_for("ready", 2)
    pids = supervisor.journal("ready")
    supervisor.end(signal.SIGKILL)
    wait_until(lambda: all(map(is_gone, pids)), "end of the orphans")


@ring2
def test_a_second_supervisor_waits_for_the_first_ones_worker(run):
    first = run({"wan": "obedient"})
    first.wait_for("ready")
    second = run({"wan": "obedient"}, orphan=0.05, status=0.05)
    second.wait_for_event("another copy is still alive, waiting")
    second.wait_for_event("status", 5)
    assert not second.events("worker started")
    assert not first.events("worker ended")
    assert first.end() == 0
    second.wait_for("ready", 2)
    assert second.end() == 0


@ring2
def test_an_orphan_that_will_not_end_is_killed_by_the_next_supervisor(run):
    first = run({"wan": "deaf"})
    first.wait_for("ready")
    first.send(signal.SIGKILL)  # and nobody collects it, as in a container whose first process does not
    second = run({"wan": "obedient"}, orphan=0.2)
    second.wait_for("ready", 2)
    assert second.events("leases end")[0]["claims"] == ["wan-claim"]
    assert second.end() == 0


@ring2
def test_a_heartbeat_of_another_life_is_not_taken_for_this_ones(run, tmp_path):
    path, dead = tmp_path / "wan.heartbeat", Heartbeat(1, pid=1, phase="idle", deadline=0.0, monotonic=0.0)
    heartbeat.write(path, dead)
    supervisor = run({"wan": "silent"}, status=0.05)
    supervisor.wait_for("ready")
    heartbeat.write(path, replace(dead, generation=0))  # a worker that runs alone
    supervisor.wait_for_event("status", len(supervisor.events("status")) + 3)
    assert not supervisor.events("worker ready") + supervisor.events("killing worker")


@ring2
def test_a_waiting_supervisor_can_be_stopped(run):
    first = run({"wan": "obedient"})
    first.wait_for("ready")
    second = run({"wan": "obedient"})
    second.wait_for_event("another copy is still alive, waiting")
    assert second.end() == 0


@ring2
@pytest.mark.parametrize("code", [1, 64, 73])
def test_when_no_worker_can_be_configured_the_supervisor_says_so_and_ends(run, code):
    supervisor = run({"sdxl": str(code), "wan": str(code)})
    assert supervisor.process.wait(60) == 1
    assert len(supervisor.journal("started")) == 2


@ring2
def test_one_worker_that_cannot_be_configured_does_not_stop_the_other(run):
    supervisor = run({"sdxl": "1", "wan": "obedient"})
    supervisor.wait_for_event("worker ended")
    supervisor.wait_for("wan ready")
    assert supervisor.end() == 0


@ring2
def test_a_command_that_does_not_exist_counts_as_configuration(run):
    supervisor = run({"wan": "obedient"}, argv=["/nowhere/python"])
    assert supervisor.process.wait(60) == 1


@ring2
def test_only_one_kind_runs_when_asked(run):
    supervisor = run(BOTH, only="wan")
    supervisor.wait_for("ready")
    assert supervisor.end() == 0
    assert not supervisor.journal("sdxl")


@ring2
def test_a_worker_is_not_started_before_the_card_has_room(run, tmp_path):
    (tmp_path / "card-is-full").touch()
    supervisor = run({"wan": "obedient"}, status=0.05)
    supervisor.wait_for_event("status", 3)
    assert not supervisor.events("worker started")
    (tmp_path / "card-is-full").unlink()
    supervisor.wait_for("ready")
    assert supervisor.end() == 0


@ring2
def test_a_recycled_worker_is_replaced_without_a_back_off(run):
    supervisor = run({"wan": "recycled"}, backoff=[60.0])
    supervisor.wait_for("ready", 3)
    assert supervisor.end() == 0


@ring2
def test_the_status_line_says_what_every_slot_does(run):
    supervisor = run({"sdxl": "70", "wan": "obedient"}, status=0.2, retry=60)
    wait_until(lambda: any(line["wan"].get("phase") for line in supervisor.events("status")), "status")
    line = next(line for line in supervisor.events("status") if line["wan"].get("phase"))
    assert {"state": "running", "phase": "idle", "done": 1, "restarts": 0}.items() <= line["wan"].items()
    assert line["queues"] == {"sdxl_queue": 3}
    assert line["sdxl"]["state"] in set(State)


@ring2
def test_a_queue_that_does_not_answer_costs_only_its_part_of_the_status(run):
    supervisor = run({"wan": "obedient"}, status=0.1, broken=True)
    assert supervisor.wait_for_event("status")["queues"] is None
    assert supervisor.end() == 0


@ring2
def test_workers_never_see_the_key_that_rents_machines(run, monkeypatch):
    monkeypatch.setenv("RUNPOD_API_KEY", "planted-key")
    supervisor = run({"wan": "leaky"})
    supervisor.wait_for("ready")
    assert supervisor.journal("clean")
    assert not supervisor.journal("key")
