"""Taking turns on a card: one holder at a time, handed over between two steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest

from tests.support import wait_until
from workers.card.turn import Turn
from workers.errors import Interrupted
from workers.watch import Watch


@pytest.fixture
def turn(tmp_path):
    def make(**options) -> Turn:
        return Turn(tmp_path, "0", **{"yields": False, "synchronize": lambda: None} | options)

    return make


def in_thread(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_one_computes_at_a_time(turn):
    inside, most = [], []

    def work(place: Turn) -> None:
        for _ in range(5):
            with place.held(Watch()):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.002)
                inside.pop()

    threads = [in_thread(lambda: work(turn())) for _ in range(3)]
    for thread in threads:
        thread.join(10)
    assert max(most) == 1
    assert len(most) == 15


def test_a_video_lets_a_picture_in_between_two_steps_and_then_goes_on(turn):
    order, at_step = [], threading.Event()

    def picture() -> None:
        at_step.wait(5)
        with turn().held(Watch()):
            order.append("picture")

    waiting = in_thread(picture)
    video, watch = turn(yields=True), Watch()
    with video.held(watch):
        at_step.set()
        while "picture" not in order:
            order.append("step")
            time.sleep(0.01)
            video.offer(watch)
        order.append("last step")
    waiting.join(5)
    assert order[0] == "step"
    assert order[-1] == "last step"


def test_a_picture_is_not_interrupted(turn):
    picture, other = turn(), turn()
    done = []
    with picture.held(Watch()):
        waiting = in_thread(lambda: [done.append(1) for _ in [0] if _enter(other)])
        time.sleep(0.05)
        picture.offer(Watch())
        assert not done
    waiting.join(5)
    assert done


def _enter(place: Turn) -> bool:
    with place.held(Watch()):
        return True


def test_after_an_interruption_the_video_keeps_the_card_for_half_as_long(turn):
    now = [0.0]
    video, guest = turn(yields=True, clock=lambda: now[0]), turn()
    with video.held(Watch()):
        entered = threading.Event()

        def visit() -> None:
            with guest.held(Watch()):
                entered.set()
                now[0] += 10.0

        visitor = in_thread(visit)
        while not entered.is_set():
            video.offer(Watch())
        visitor.join(5)
        again = in_thread(lambda: _enter(turn()))
        time.sleep(0.05)
        now[0] += 4.9
        video.offer(Watch())
        assert again.is_alive()
        now[0] += 0.2
        video.offer(Watch())
        again.join(5)
        assert not again.is_alive()


def test_who_waits_long_is_not_passed_by_those_who_come_again_and_again(turn):
    """Without the turnstile a holder that takes the card again at once starves everybody else."""
    greedy, patient, got_in = turn(), turn(), threading.Event()
    rounds = 0
    with greedy.held(Watch()):
        waiting = in_thread(lambda: _enter(patient) and got_in.set())
        time.sleep(0.05)
    while not got_in.is_set() and rounds < 3:
        rounds += _enter(greedy)
    waiting.join(5)
    assert got_in.is_set()
    assert rounds <= 1


def test_waiting_can_be_interrupted_and_leaves_the_turnstile_free(turn):
    def stop(watch: Watch) -> None:
        watch.abort(Interrupted())

    with turn().held(Watch()), pytest.raises(Interrupted), turn().held(Watch(on_step=stop)):
        pass
    assert _enter(turn())


def test_waiting_counts_for_itself_and_not_for_the_phase(turn):
    holder, video, watch = turn(), turn(yields=True), Watch()
    with video.held(watch), watch.phase("denoise"):
        released = threading.Event()

        def visit() -> None:
            with holder.held(Watch()):
                time.sleep(0.2)
            released.set()

        in_thread(visit)
        while not released.is_set():
            video.offer(watch)
            time.sleep(0.001)
    assert watch.timings["turn"] >= 0.2
    assert watch.timings["denoise"] < 0.2


def test_a_killed_holder_frees_the_card(tmp_path, turn):
    ready = multiprocessing.get_context("fork").Event()
    child = multiprocessing.get_context("fork").Process(target=_hold_for_ever, args=(tmp_path, ready))
    child.start()
    assert ready.wait(5)
    entered = in_thread(lambda: _enter(turn()))
    time.sleep(0.05)
    assert entered.is_alive()
    os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: not entered.is_alive(), limit=1)
    child.join()


def _hold_for_ever(folder, ready) -> None:
    with Turn(folder, "0", yields=False, synchronize=lambda: None).held(Watch()):
        ready.set()
        signal.pause()
