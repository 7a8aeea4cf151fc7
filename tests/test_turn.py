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


def in_line(place: Turn, work) -> threading.Thread:
    """Somebody who wants the card that `place` holds, and stands at the turnstile when this returns."""
    thread = in_thread(work)
    wait_until(place._wanted)
    return thread


def ends(thread: threading.Thread) -> bool:
    thread.join(60)
    return not thread.is_alive()


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
    assert all(map(ends, threads))
    assert max(most) == 1
    assert len(most) == 15


def test_a_video_lets_a_picture_in_between_two_steps_and_then_goes_on(turn):
    order, video, watch = [], turn(yields=True), Watch()

    def picture() -> None:
        with turn().held(Watch()):
            order.append("picture")

    with video.held(watch):
        waiting = in_line(video, picture)
        order.append("step")
        video.offer(watch)
        order.append("last step")
    assert ends(waiting)
    assert order == ["step", "picture", "last step"]


def test_a_picture_is_not_interrupted(turn):
    picture, other = turn(), turn()
    done = []
    with picture.held(Watch()):
        waiting = in_line(picture, lambda: [done.append(1) for _ in [0] if _enter(other)])
        picture.offer(Watch())
        assert not done
    assert ends(waiting)
    assert done


def _enter(place: Turn) -> bool:
    with place.held(Watch()):
        return True


def test_after_an_interruption_the_video_keeps_the_card_for_half_as_long(turn):
    now = [0.0]
    video, guest = turn(yields=True, clock=lambda: now[0]), turn()
    with video.held(Watch()):

        def visit() -> None:
            with guest.held(Watch()):
                now[0] += 10.0

        visitor = in_line(video, visit)
        video.offer(Watch())
        assert ends(visitor)
        again = in_line(video, lambda: _enter(turn()))
        now[0] += 4.9
        video.offer(Watch())
        assert again.is_alive()
        now[0] += 0.2
        video.offer(Watch())
        assert ends(again)


def test_who_waits_long_is_not_passed_by_those_who_come_again_and_again(turn):
    """Without the turnstile a holder that takes the card again at once starves everybody else."""
    greedy, patient, got_in = turn(), turn(), threading.Event()
    rounds = 0
    with greedy.held(Watch()):
        waiting = in_line(greedy, lambda: _enter(patient) and got_in.set())
    while not got_in.is_set() and rounds < 3:
        rounds += _enter(greedy)
    assert ends(waiting)
    assert rounds <= 1


def test_waiting_can_be_interrupted_and_leaves_the_turnstile_free(turn):
    def stop(watch: Watch) -> None:
        watch.abort(Interrupted())

    with turn().held(Watch()), pytest.raises(Interrupted), turn().held(Watch(on_step=stop)):
        pass
    assert _enter(turn())


def test_waiting_counts_for_itself_and_not_for_the_phase(turn):
    now = [0.0]
    holder, video, watch = turn(), turn(yields=True, clock=lambda: now[0]), Watch(clock=lambda: now[0])

    def visit() -> None:
        with holder.held(Watch()):
            now[0] += 10.0

    with video.held(watch), watch.phase("denoise"):
        visitor = in_line(video, visit)
        now[0] += 3.0
        video.offer(watch)
        assert ends(visitor)
    assert (watch.timings["turn"], watch.timings["denoise"]) == (10.0, 3.0)


def test_a_killed_holder_frees_the_card(tmp_path, turn):
    ready = multiprocessing.get_context("fork").Event()
    child = multiprocessing.get_context("fork").Process(target=_hold_for_ever, args=(tmp_path, ready))
    child.start()
    assert ready.wait(60)
    entered = in_line(turn(), lambda: _enter(turn()))
    assert entered.is_alive()
    os.kill(child.pid, signal.SIGKILL)
    assert ends(entered)
    child.join()


def _hold_for_ever(folder, ready) -> None:
    with Turn(folder, "0", yields=False, synchronize=lambda: None).held(Watch()):
        ready.set()
        signal.pause()
