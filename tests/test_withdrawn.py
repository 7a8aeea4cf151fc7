"""What a cancelled job leaves: nothing. And what a blocked one keeps in memory: neither."""

from __future__ import annotations

import gc
import weakref

import pytest

from tests.guarding import ADULT, audited, guarded
from tests.support import wait_until
from tests.workbench import USER, Bench, job_id_of, payload
from workers.delivery.verdict import Verdict
from workers.errors import Unreachable
from workers.testing.fakes import CallbackRecorder, FakeEngine, MemoryStorage, unreachable
from workers.testing.queue import MemoryQueue


class SlowShelf(MemoryStorage):
    """Takes some objects; then nothing goes on until the job is withdrawn. `clear` fails so many times at first."""

    def __init__(self, fails: int = 0) -> None:
        super().__init__(fail=self._hold_up)
        self._clear_fails = unreachable(fails)
        self.cleared = 0

    def _hold_up(self, path: str) -> None:
        if not path.endswith(("0.png", "1.png")):
            raise Unreachable("storage answered 503")

    def clear(self, job_type: str, user_id: str, job_id: str) -> None:
        self._clear_fails(job_id)
        super().clear(job_type, user_id, job_id)
        self.cleared += 1


@pytest.mark.parametrize("fails", [0, 2])
def test_objects_of_a_job_cancelled_during_its_upload_are_deleted(bench, monkeypatch, fails):
    monkeypatch.setattr("workers.delivery.courier.BACK_OFF", (0.05,))
    monkeypatch.setattr("workers.delivery.withdrawal.PAUSES", (0.01, 0.01, 0.01))
    shelf = SlowShelf(fails)
    at = bench(kind="sdxl", storage=shelf, lease=0.4)
    (job,) = at.push(payload("sdxl_image_fast"))
    wait_until(lambda: len(shelf.objects) == 2)
    at.queue.withdrawn.add(job)
    wait_until(lambda: shelf.cleared and at.is_settled())
    assert not shelf.objects
    assert at.outbox.find(job) is None
    assert not at.callbacks.outcomes
    assert not at.queue.waiting()


def test_a_job_cancelled_when_it_is_made_again_leaves_no_object_of_its_first_attempt(bench):
    shelf, queue, body = MemoryStorage(), MemoryQueue(), payload()
    shelf.objects["image_fast", f"{USER}/{job_id_of(body)}/0.png"] = b"of the first attempt"
    queue.push(body)
    queue.claim("a" * 32)
    queue.expire(["a" * 32])
    at = bench(queue=queue, storage=shelf, engine=FakeEngine(step_seconds=0.02, steps=10_000), lease=0.4)
    wait_until(lambda: at.leases.tokens)
    queue.withdrawn.add(job_id_of(body))
    wait_until(lambda: not shelf.objects and at.is_settled())
    assert not at.callbacks.outcomes


def test_a_job_cancelled_while_its_files_wait_leaves_neither_files_nor_objects(bench, tmp_path):
    body = payload()
    first = Bench(tmp_path, storage=MemoryStorage(fail=unreachable(10_000)), grace=0.0).start()
    (job,) = first.push(body)
    wait_until(lambda: first.outbox.find(job))
    first.finish()
    shelf = MemoryStorage()
    shelf.objects["image_fast", f"{USER}/{job}/0.png"] = b"of the first attempt"
    first.queue.withdrawn.add(job)
    second = bench(queue=first.queue, storage=shelf)
    wait_until(lambda: second.outbox.find(job) is None)
    assert not shelf.objects
    assert not second.callbacks.outcomes


def test_the_pixels_of_a_blocked_job_are_gone_before_its_callback_is_heard(bench, tmp_path):
    kept: list[weakref.ref] = []

    class Remembering(FakeEngine):
        def generate(self, params, watch):
            outputs = super().generate(params, watch)
            kept.extend(weakref.ref(output.frames) for output in outputs)
            return outputs

    guards = guarded(tmp_path, explicit=0.9)
    at = bench(engine=Remembering(steps=1), guards=guards)
    send = at.callbacks.send

    def gone() -> bool:
        gc.collect()
        return all(frames() is None for frames in kept)

    def send_and_look(outcome, user_id):
        wait_until(gone)  # whoever held on to them until the callback is heard would hold on for ever here
        return send(outcome, user_id)

    at.callbacks.send = send_and_look
    at.push(payload())
    (outcome,) = at.ends()
    assert (outcome.status, outcome.error_type) == ("failed", "policy")
    assert kept
    assert gone()
    wait_until(lambda: at.engine.forgot)
    assert not at.storage.objects
    assert not list((tmp_path / "outbox").rglob("*.png"))


@pytest.mark.parametrize(("age", "status"), [(40.0, "completed"), (19.0, "failed")])
def test_an_adult_job_is_delivered_unless_somebody_in_it_may_be_a_minor(bench, tmp_path, age, status):
    at = bench(guards=guarded(tmp_path, explicit=0.9, age=age, policy=ADULT))
    (job,) = at.push(payload(rating="adult"))
    (outcome,) = at.ends()
    assert outcome.status == status
    assert bool(at.storage.objects) == (status == "completed")
    events = [line["event"] for line in audited(tmp_path) if line.get("job") == job]
    assert events == ["admitted", "made" if status == "completed" else "blocked"]


def test_everything_that_was_made_is_in_the_audit_and_the_registry(bench, tmp_path):
    guards = guarded(tmp_path)
    at = bench(guards=guards)
    (job,) = at.push(payload(config={"seed": 7}))
    at.ends()
    (line,) = audited(tmp_path, "made")
    (entry,) = guards.inspection.registry.of_job(job)
    assert (line["job"], line["seeds"], line["rating"]) == (job, [7], "sfw")
    assert (entry.sha256, entry.owner) == (line["outputs"][0]["sha256"], USER)
    assert "red bicycle" not in str(audited(tmp_path))
    assert USER not in str(audited(tmp_path))


def test_a_blocked_job_that_nobody_wants_to_hear_of_is_not_kept_among_the_dead(bench, tmp_path):
    callbacks = CallbackRecorder([Verdict("stop", "410", tries=1)])
    at = bench(guards=guarded(tmp_path, explicit=0.9), callbacks=callbacks)
    at.push(payload())
    at.ends()
    assert not at.queue.dead()
