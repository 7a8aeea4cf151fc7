"""Which errors are tried again, how often and when, and which end a job or a process at once."""

from __future__ import annotations

import errno

import pytest

from tests.support import wait_until
from tests.workbench import USER, job_id_of, payload
from workers import media
from workers.card import gpu
from workers.delivery.verdict import Verdict, jittered
from workers.endings import MAX_ATTEMPTS, RETRY_DELAYS
from workers.errors import EngineBroken, Rejected, Unreachable
from workers.readback import MediaError
from workers.supabase import storage
from workers.supabase.storage import Refused
from workers.testing.fakes import CallbackRecorder, FakeEngine, MemoryStorage

FULL = OSError(errno.ENOSPC, "No space left on device")


class Failing:
    """Raises an error for the first so many calls, and counts them all."""

    def __init__(self, error: BaseException, times: int = 10**6) -> None:
        self._error, self._times = error, times
        self.calls = 0

    def __call__(self, *_: object, **__: object) -> None:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error


@pytest.fixture
def delays(monkeypatch) -> list[float]:
    """How long jobs were parked; they come back at once."""
    asked: list[float] = []

    def hurry(delay: float) -> float:
        asked.append(delay)
        return 0.01

    monkeypatch.setattr("workers.endings.jittered", hurry)
    monkeypatch.setattr("workers.delivery.courier.jittered", hurry)
    monkeypatch.setattr("workers.delivery.courier.BACK_OFF", (0.01,))
    return asked


def engine_that(deed: Failing) -> FakeEngine:
    return FakeEngine(steps=1, evil={"bicycle": deed})


# In the making


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        RuntimeError("x"),
        KeyError("x"),
        MemoryError(),
        TimeoutError(),
        OSError("x"),
        FULL,
        Unreachable("503"),
        MediaError("x"),
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_three_times_and_then_told(bench, delays, error):
    fails = Failing(error)
    at = bench(engine=engine_that(fails))
    at.push(payload())
    (outcome,) = at.ends()
    assert (outcome.status, fails.calls) == ("failed", MAX_ATTEMPTS)
    assert delays == list(RETRY_DELAYS[: MAX_ATTEMPTS - 1]) == [10.0, 60.0]
    assert len(at.queue.dead()) == 1


@pytest.mark.parametrize("failures", [1, 2])
def test_a_job_that_works_at_last_is_a_success(bench, delays, failures):
    at = bench(engine=engine_that(Failing(ValueError("x"), failures)))
    at.push(payload())
    (outcome,) = at.ends()
    assert (outcome.status, outcome.metadata["attempt"]) == ("completed", failures + 1)
    assert not at.queue.dead()


@pytest.mark.parametrize(("code", "kept"), [("invalid", 0), ("policy", 0), ("failed", 1), ("unreadable", 1)])
def test_what_is_the_jobs_own_fault_is_told_at_once(bench, delays, code, kept):
    fails = Failing(Rejected("This cannot be made.", code=code))
    at = bench(engine=engine_that(fails))
    at.push(payload())
    (outcome,) = at.ends()
    assert (outcome.error_message, outcome.error_type, fails.calls) == ("This cannot be made.", code, 1)
    assert (delays, len(at.queue.dead())) == ([], kept)


@pytest.mark.parametrize("code", [70, 71])
def test_a_broken_card_ends_the_process_and_counts_the_attempt(bench, delays, code):
    fails = Failing(EngineBroken("x", exit_code=code))
    at = bench(engine=engine_that(fails))
    at.push(payload())
    at._thread.join(10)
    assert (at.exit_code, fails.calls, delays) == (code, 1, [])
    assert at.queue.claim("f" * 32).claim.attempt == 2


def test_a_card_that_turns_out_broken_when_it_is_given_back_ends_the_process_too(monkeypatch):
    import torch

    lost = torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered")
    monkeypatch.setattr(torch.cuda, "synchronize", Failing(lost))
    with pytest.raises(EngineBroken) as broken:
        gpu.synchronize("cuda")
    assert broken.value.exit_code == 70


def test_those_who_failed_together_do_not_come_back_together():
    waits = {jittered(60.0) for _ in range(100)}
    assert len(waits) > 50
    assert all(60 <= wait <= 72 for wait in waits)


# On the way out


def test_storage_that_does_not_answer_is_asked_until_it_does(bench, delays):
    fails = Failing(Unreachable("503"), 7)
    at = bench(storage=MemoryStorage(fail=fails))
    at.push(payload())
    (outcome,) = at.ends()
    assert (outcome.status, fails.calls, len(at.engine.made), delays) == ("completed", 8, 1, [])


def test_storage_that_refuses_ends_the_job_and_keeps_its_message(bench, delays):
    fails = Failing(Refused("The result could not be stored (error 413).", code="failed"))
    at = bench(storage=MemoryStorage(fail=fails))
    at.push(payload())
    (outcome,) = at.ends()
    assert (outcome.status, fails.calls) == ("failed", 1)
    assert "413" in at.queue.dead()[0].reason
    assert at.outbox.find(outcome.job_id) is None


def test_one_refused_object_takes_the_others_with_it(bench, delays):
    def refuse_the_third(path: str) -> None:
        if path.endswith("/2.png"):
            raise Refused("The result could not be stored (error 415).", code="failed")

    at = bench(kind="sdxl", storage=MemoryStorage(fail=refuse_the_third))
    at.push(payload("sdxl_image_fast"))
    (outcome,) = at.ends()
    assert (outcome.status, at.storage.objects) == ("failed", {})
    assert sum(at.storage.puts.values()) == 5


def test_objects_of_an_earlier_attempt_go_when_the_job_fails_at_last(bench, delays):
    at = bench(engine=engine_that(Failing(ValueError("x"))))
    body, other = payload(), payload()
    for each in (body, other):
        at.storage.objects["image_fast", f"{USER}/{job_id_of(each)}/0.png"] = b"an earlier attempt"
    at.push(body)
    at.ends()
    assert [path for _, path in at.storage.objects] == [f"{USER}/{job_id_of(other)}/0.png"]


@pytest.mark.parametrize("error", [MediaError("x"), OSError("x"), RuntimeError("x")], ids=repr)
def test_an_encoder_that_fails_costs_an_attempt(bench, delays, monkeypatch, error):
    at = bench()
    fails = Failing(error)
    monkeypatch.setattr("workers.media.encode", fails)
    at.push(payload())
    (outcome,) = at.ends()
    assert (outcome.status, fails.calls) == ("failed", MAX_ATTEMPTS)


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE", "EFBIG"])
def test_a_volume_that_fails_costs_no_attempt(bench, delays, monkeypatch, number):
    at = bench()
    encode, fails = media.encode, Failing(OSError(getattr(errno, number), "x"), 2 * MAX_ATTEMPTS)
    monkeypatch.setattr("workers.media.encode", lambda *given, **options: fails() or encode(*given, **options))
    at.push(payload())
    (outcome,) = at.ends()
    assert (outcome.status, outcome.metadata["attempt"]) == ("completed", 1)
    assert fails.calls == 2 * MAX_ATTEMPTS + 1


@pytest.mark.parametrize(
    ("verdict", "status", "calls"),
    [
        (Verdict("retry", "503"), "completed", 2),
        (Verdict("wait_for_link", "400"), "completed", 2),
        (Verdict("denied", "401", alarm=True), "completed", 2),
        (Verdict("mismatch", "400", alarm=True), "completed", 2),
        (Verdict("stop", "410", tries=1), "completed", 1),
        (Verdict("refused", "404", tries=1), "completed", 1),
    ],
    ids=lambda value: getattr(value, "meaning", None),
)
def test_a_callback_is_repeated_as_its_answer_says_and_the_picture_is_not_made_again(
    bench, monkeypatch, verdict, status, calls
):
    monkeypatch.setattr("workers.delivery.verdict.SCHEDULE", (0.01, 0.01))
    at = bench(callbacks=CallbackRecorder([verdict]))
    at.push(payload())
    wait_until(lambda: len(at.callbacks.outcomes) == calls and not at.leases.tokens)
    assert [outcome.status for outcome in at.callbacks.outcomes] == [status] * calls
    assert len(at.engine.made) == 1
    assert len(at.queue.dead()) == (calls == 1)


def test_no_status_is_both_final_and_passing():
    passing = {status for status in range(100, 600) if storage.passes(status)}
    assert {408, 425, 429, *range(500, 600)} <= passing
    assert not passing & {*range(200, 300), 400, 401, 403, 404, 405, 409, 410, 413, 415, 422}
