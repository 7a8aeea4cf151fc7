"""Stopping: what signals, a dead parent and other threads do to a sleeping loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from workers.stop import Stop
from workers.supervision import heartbeat

LONG = 600.0
SOON = 60.0


@pytest.fixture
def stop() -> Iterator[Stop]:
    stop = Stop().install()
    yield stop
    stop.close()


def in_a_moment(action, *arguments) -> threading.Timer:
    timer = threading.Timer(0.05, action, arguments)
    timer.start()
    return timer


def seconds_of(wait, seconds: float) -> float:
    started = time.monotonic()
    wait(seconds)
    return time.monotonic() - started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_sleep(stop, number):
    in_a_moment(os.kill, os.getpid(), number)
    assert seconds_of(stop.sleep, LONG) < SOON
    assert stop.requested
    assert not stop.now


def test_a_signal_that_came_before_the_sleep_ends_it_too(stop):
    os.kill(os.getpid(), signal.SIGTERM)
    assert seconds_of(stop.sleep, LONG) < SOON


def test_every_later_sleep_returns_at_once_and_says_why(stop):
    stop.request()
    assert stop.sleep(LONG)
    assert stop.sleep(LONG)


def test_a_sleep_without_a_signal_lasts_its_time(stop):
    assert seconds_of(stop.sleep, 0.05) >= 0.05
    assert not stop.requested
    assert stop.since is None


def test_one_who_drains_sleeps_until_the_second_signal(stop):
    os.kill(os.getpid(), signal.SIGTERM)
    assert not stop.sleep(0.05, beyond=1)
    in_a_moment(os.kill, os.getpid(), signal.SIGINT)
    assert seconds_of(lambda seconds: stop.sleep(seconds, beyond=1), LONG) < SOON
    assert stop.now


def test_the_time_of_the_first_request_is_kept(stop):
    before = time.monotonic()
    stop.request()
    first = stop.since
    stop.request()
    assert stop.since == first
    assert before <= first <= time.monotonic()


def test_another_thread_can_wake_a_sleeper_without_stopping_it(stop):
    in_a_moment(stop.wake)
    assert seconds_of(stop.sleep, LONG) < SOON
    assert not stop.requested


def test_a_rest_tells_whether_it_was_disturbed(stop):
    assert stop.rest(0.01)
    stop.wake()
    assert not stop.rest(LONG)
    stop.request()
    assert not stop.rest(LONG)


def test_a_wake_before_the_sleep_is_not_lost(stop):
    stop.wake()
    assert seconds_of(stop.sleep, LONG) < SOON
    assert seconds_of(stop.sleep, 0.05) >= 0.05


def test_waking_never_blocks_when_nobody_sleeps(stop):
    for _ in range(100_000):
        stop.wake()


def test_a_signal_reaches_a_thread_that_only_reads(stop):
    seen = threading.Event()

    def read() -> None:
        while not stop.requested:
            time.sleep(0.001)
        seen.set()

    reader = threading.Thread(target=read)
    reader.start()
    os.kill(os.getpid(), signal.SIGTERM)
    assert seen.wait(SOON)
    reader.join()


def test_a_named_signal_only_wakes():
    stop = Stop().install(wake_on=[signal.SIGUSR1])
    in_a_moment(os.kill, os.getpid(), signal.SIGUSR1)
    assert seconds_of(stop.sleep, LONG) < SOON
    assert not stop.requested
    stop.close()


def test_closing_gives_the_signals_back():
    before = signal.getsignal(signal.SIGTERM)
    Stop().install().close()
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_dead_parent_counts_as_the_second_signal():
    stop = Stop(parent=os.getpid())  # never the parent of itself, so as good as dead
    assert stop.now
    assert stop.since is not None
    stop.close()


def test_a_living_parent_asks_for_nothing():
    stop = Stop(parent=os.getppid())
    assert not stop.requested
    stop.close()


def test_a_process_alone_does_not_mind_losing_its_parent(monkeypatch):
    monkeypatch.delenv(heartbeat.SUPERVISOR, raising=False)
    stop = Stop(parent=heartbeat.supervisor())
    assert not stop.requested
    stop.close()


def test_a_storm_of_signals_ends_a_process_cleanly():
    script = "from workers.stop import Stop; s = Stop().install(); print(); print(s.sleep(600, beyond=1)); s.ignore()"
    with subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True) as child:
        child.stdout.readline()
        while child.poll() is None:  # the kernel may merge what comes in one burst
            child.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        assert (child.stdout.read().strip(), child.returncode) == ("True", 0)


def beat(**changes) -> heartbeat.Heartbeat:
    given = {"generation": 3, "pid": 7, "phase": "denoise", "deadline": 9.0, "monotonic": time.monotonic(), **changes}
    return heartbeat.Heartbeat(**given)


def test_a_heartbeat_is_read_as_it_was_written(tmp_path):
    written = beat(tokens=("a", "b"), job="j", type="video_fast", step=3, total=12)
    heartbeat.write(tmp_path / "wan.heartbeat", written)
    assert heartbeat.read(tmp_path / "wan.heartbeat") == written
    assert written.percent == 25


def test_the_age_of_a_heartbeat_grows():
    assert 5 <= beat(monotonic=time.monotonic() - 5).age() < 5 + SOON


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"generation": 1}', '{"pid": 1, "tokens": 4}'])
def test_what_is_no_heartbeat_reads_as_none(tmp_path, content):
    path = tmp_path / "wan.heartbeat"
    path.write_text(content)
    assert heartbeat.read(path) is None


def test_a_missing_heartbeat_reads_as_none(tmp_path):
    assert heartbeat.read(tmp_path / "none") is None


def test_keys_of_a_later_version_are_ignored(tmp_path):
    path = tmp_path / "wan.heartbeat"
    heartbeat.write(path, beat())
    path.write_text(path.read_text().replace("{", '{"mood": "good", ', 1))
    assert heartbeat.read(path).generation == 3


def test_the_run_folder_is_the_one_asked_for_and_private(tmp_path, monkeypatch):
    monkeypatch.setenv(heartbeat.RUN_DIR, str(tmp_path / "run"))
    assert heartbeat.path_of("wan") == tmp_path / "run" / "wan.heartbeat"
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_a_run_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(heartbeat.RUN_DIR, str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(PermissionError, match="OURVIDZ_RUN_DIR"):
        heartbeat.run_dir()


def test_generation_and_supervisor_come_from_the_environment(monkeypatch):
    monkeypatch.setenv(heartbeat.GENERATION, "4")
    monkeypatch.setenv(heartbeat.SUPERVISOR, "12")
    assert (heartbeat.generation(), heartbeat.supervisor()) == (4, 12)
