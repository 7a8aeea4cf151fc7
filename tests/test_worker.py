"""The loop, the life of a job and its delivery, with everything around them in memory."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import replace

import pytest

from tests.support import wait_until
from tests.workbench import USER, Bench, job_id_of, payload
from workers.delivery.report import Report
from workers.delivery.verdict import Verdict
from workers.errors import ClaimLost, EngineBroken, Rejected, Unreachable
from workers.lease import FRESH
from workers.testing.fakes import CallbackRecorder, FakeEngine, MemoryStorage, unreachable
from workers.testing.queue import MemoryQueue


def test_a_job_travels_from_the_queue_to_an_accepted_callback(bench):
    at = bench()
    (job,) = at.push(payload("video_fast", config={"frame_num": 9}))
    (outcome,) = at.ends()
    assert (outcome.job_id, outcome.status) == (job, "completed")
    assert [d.path for d in outcome.deliveries] == [f"{USER}/{job}/0.mp4"]
    assert ("video_fast", f"{USER}/{job}/0.mp4") in at.storage.objects
    assert at.callbacks.announced == [job]
    assert at.outbox.find(job) is None


def test_six_images_arrive_in_order_each_with_its_own_seed(bench):
    at = bench(kind="sdxl")
    at.push(payload("sdxl_image_fast", config={"seed": 7}))
    (outcome,) = at.ends()
    assert [d.index for d in outcome.deliveries] == [0, 1, 2, 3, 4, 5]
    assert [d.seed for d in outcome.deliveries] == [7, 8, 9, 10, 11, 12]


def test_the_callback_says_how_the_picture_was_made_and_where_the_time_went(bench):
    at = bench()
    at.push(payload("image7b_fast_enhanced", created_at="2025-07-15T02:12:30.489Z"))
    (outcome,) = at.ends()
    said = outcome.metadata
    assert outcome.enhanced_prompt == "a red bicycle, beautifully lit"
    assert said["original_prompt"] == "a red bicycle"
    assert (said["steps"], said["guidance_scale"], said["model"], said["attempt"]) == (25, 6.5, "fake", 1)
    phases = {"wait", "load", "enhance", "denoise", "encode", "upload", "callback"}
    assert phases <= said["timings"].keys()
    assert said["timings"]["wait"] > 0


def test_nothing_is_loaded_per_job(bench):
    at = bench()
    at.push(*(payload() for _ in range(5)))
    at.ends(5)
    assert at.engine.loads == 1


def test_a_worker_settles_once_when_everything_is_loaded(bench):
    at = bench()
    at.push(payload(), payload())
    at.ends(2)
    assert at.settled == [1]


def test_an_idle_worker_makes_ready_what_a_job_had_to_do_without(bench):
    at = bench()
    at.engine.unrehearsed = True
    wait_until(lambda: not at.engine.unrehearsed)
    at.push(payload())
    assert at.ends()[0].status == "completed"


def test_jobs_that_wait_go_before_such_a_rehearsal(bench):
    engine = FakeEngine(steps=1)
    rehearsed_after = []
    engine.rehearse = lambda _: rehearsed_after.append(len(engine.made)) or setattr(engine, "unrehearsed", False)
    engine.unrehearsed = True
    queue = MemoryQueue()
    for _ in range(3):
        queue.push(payload())
    at = bench(engine=engine, queue=queue)
    at.ends(3)
    wait_until(lambda: rehearsed_after)
    assert rehearsed_after == [3]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (payload("sdxl_image_fast"), "not made by this queue"),
        (payload("image_of_a_kind"), "not known"),
        (payload(prompt="x" * 100_000), "longer than 4,000 characters"),
        (payload(user_id="nobody"), "not valid"),
        (payload(config={"reference_image_url": "https://a.example/b.png"}), "in your own folder"),
        (payload(config={"pipeline": "img2img"}), "has no reference image"),
    ],
    ids=["foreign queue", "unknown type", "too long", "nobody's", "foreign reference", "no reference"],
)
def test_a_job_that_cannot_be_made_fails_with_a_sentence_and_the_worker_goes_on(bench, body, sentence):
    at = bench()
    at.push(body, payload())
    completed, failed = sorted(at.ends(2), key=lambda outcome: outcome.status)
    assert (failed.status, failed.job_id) == ("failed", job_id_of(body))
    assert sentence in failed.error_message
    assert completed.status == "completed"


@pytest.mark.parametrize("body", ["nonsense", '{"id": 1}', '{"type": "image_fast"}'])
def test_what_has_no_id_goes_to_the_dead_list(bench, body):
    at = bench()
    at.queue.push(body)
    at.push(payload())
    at.ends()
    assert [entry.body for entry in at.queue.dead()] == [body]


def test_a_broken_message_whose_id_can_be_read_is_told_to_its_user_and_kept(bench):
    at = bench()
    body = payload()[:-1] + ', "config": {"x": NaN}}'
    at.queue.push(body)
    (outcome,) = at.ends()
    assert outcome.error_message == "The job could not be read."
    assert [entry.body for entry in at.queue.dead()] == [body]


def test_an_upload_that_does_not_get_through_is_repeated_without_a_second_generation(bench):
    at = bench(storage=MemoryStorage(fail=unreachable(2)))
    at.push(payload())
    (outcome,) = at.ends()
    assert outcome.status == "completed"
    assert len(at.engine.made) == 1


def test_a_callback_that_fails_at_first_is_sent_again(bench, monkeypatch):
    monkeypatch.setattr("workers.delivery.verdict.SCHEDULE", (0.05, 0.05))
    at = bench(callbacks=CallbackRecorder([Verdict("retry", "503"), Verdict("wait_for_link", "400")]))
    at.push(payload())
    assert len(at.ends(3)) == 3
    assert len(at.engine.made) == 1


def test_a_picture_that_could_not_be_shown_at_first_is_shown_before_the_job_counts_as_done(bench):
    at = bench(callbacks=CallbackRecorder(fail=unreachable(1)))
    (job,) = at.push(payload())
    at.ends()
    assert at.callbacks.adopted == [job]
    assert len(at.callbacks.outcomes) == 1


def test_a_job_that_was_delivered_is_not_told_to_have_failed_when_its_ack_finds_no_queue(bench):
    queue, body, acks = MemoryQueue(), payload(), []

    def before(method: str) -> None:
        if method == "ack":
            acks.append(method)
            raise Unreachable("no answer")

    queue.push(body)
    for token in ("a" * 32, "b" * 32):
        queue.claim(token)
        queue.remember(token, job_id_of(body), Report.of_failure(job_id_of(body), Rejected("Made.")).record())
        queue.release(token, counted=True)
    queue.results[job_id_of(body)]["delivered"] = True
    queue.before = before
    at = bench(queue=queue)
    wait_until(lambda: acks and at.is_settled())
    assert not at.callbacks.outcomes


def test_a_callback_that_must_wait_long_is_parked_and_costs_no_attempt(bench, monkeypatch):
    monkeypatch.setattr("workers.delivery.verdict.SCHEDULE", (0.5,))
    monkeypatch.setattr("workers.delivery.courier.PARK_ABOVE", 0.1)
    at = bench(callbacks=CallbackRecorder([Verdict("retry", "503")]))
    (job,) = at.push(payload())
    wait_until(lambda: at.callbacks.outcomes and at.is_settled())
    assert len(at.ends(2)) == 2
    assert len(at.engine.made) == 1
    assert at.outbox.find(job) is None


def test_of_a_blocked_job_only_its_end_is_left_while_its_callback_waits(bench):
    now = [0.0]
    queue, told = MemoryQueue(clock=lambda: now[0]), CallbackRecorder([Verdict("retry", "503", retry_after=600.0)])
    first = bench(queue=queue, callbacks=told)
    (job,) = first.push(payload(prompt="a minor, nsfw", metadata={"seen": "a red bicycle"}))
    wait_until(lambda: told.outcomes and first.is_settled())
    first.finish()
    now[0] = 700.0
    left = queue.claim("a" * 32).claim
    assert json.loads(left.body) == {"id": job, "user_id": USER}
    queue.release("a" * 32, counted=False)
    again = bench(queue=queue)
    assert [replace(each, metadata={}) for each in again.ends()] == [replace(told.outcomes[0], metadata={})]
    assert (again.callbacks.outcomes[0].error_type, again.engine.made) == ("policy", [])


def test_what_is_left_of_a_blocked_job_is_never_made(bench):
    at = bench()
    at.push(Report.of_failure(str(uuid.uuid4()), Rejected("No.", code="policy")).instead_of(payload()))
    (outcome,) = at.ends()
    assert (outcome.status, at.engine.made) == ("failed", [])


def test_a_batch_is_said_twice_where_rows_may_appear_late(bench, monkeypatch):
    monkeypatch.setattr("workers.delivery.courier.REPEAT_COMPLETED_AFTER", 0.1)
    at = bench(kind="sdxl", callbacks=CallbackRecorder(repeats=True))
    at.push(payload("sdxl_image_fast"), payload("sdxl_image_fast", config={"num_images": 1}))
    outcomes = at.ends(3)
    assert sorted(len(o.deliveries) for o in outcomes) == [1, 6, 6]


def test_a_callback_that_is_refused_for_good_goes_to_the_dead_list(bench):
    at = bench(callbacks=CallbackRecorder([Verdict("stop", "410", tries=1)]))
    at.push(payload())
    at.ends()
    assert "410" in at.queue.dead()[0].reason


def test_an_unforeseen_error_is_tried_again_and_at_last_told_to_the_user(bench, monkeypatch):
    monkeypatch.setattr("workers.endings.RETRY_DELAYS", (0.05, 0.05, 0.05))
    tries = []
    at = bench(engine=FakeEngine(steps=1, evil={"bicycle": lambda _: tries.append(1 / 0)}))
    at.push(payload())
    (outcome,) = at.ends()
    assert outcome.status == "failed"
    assert outcome.error_message.startswith("The job failed several times")
    assert len(at.queue.dead()) == 1


def test_a_job_that_killed_two_workers_is_not_run_again(bench):
    hours = 0
    queue = MemoryQueue(clock=lambda: hours * 3600)
    queue.push(payload())
    for token in ("a" * 32, "b" * 32):
        queue.claim(token)
        hours += 1
    at = bench(queue=queue)
    (outcome,) = at.ends()
    assert outcome.status == "failed"
    assert not at.engine.made


def test_a_withdrawn_job_frees_the_card_without_a_callback(bench):
    at = bench(engine=FakeEngine(step_seconds=0.02, steps=10_000), lease=0.4)
    (job,) = at.push(payload())
    wait_until(lambda: at.leases.tokens)
    at.queue.withdrawn.add(job)
    wait_until(lambda: not at.leases.tokens)
    assert not at.callbacks.outcomes
    assert not at.engine.made


def test_who_lost_the_claim_has_no_effect_any_more(bench):
    at = bench(engine=FakeEngine(step_seconds=0.02, steps=10_000), lease=0.4)
    at.push(payload())
    wait_until(lambda: at.leases.tokens)
    steal(at.queue, at.leases.tokens)
    wait_until(lambda: not at.leases.tokens)
    assert not at.storage.objects
    assert not at.callbacks.outcomes


def steal(queue: MemoryQueue, tokens) -> None:
    """End the leases and have somebody else claim the job before a beat renews them."""
    wait_until(lambda: queue.expire(tokens) and queue.claim(uuid.uuid4().hex).claim)


def test_a_claim_lost_on_the_way_out_is_noticed_before_the_first_upload(bench):
    at = bench()
    pack = at.dispatch._courier.pack

    async def pack_slowly(parcel, watch):
        sealed = await pack(parcel, watch)
        steal(at.queue, [parcel.claim.token])
        time.sleep(FRESH)
        return sealed

    at.dispatch._courier.pack = pack_slowly
    at.push(payload())
    wait_until(lambda: at.engine.made and not at.leases.tokens)
    assert not at.storage.objects
    assert not at.callbacks.outcomes


def test_the_next_generation_starts_while_the_last_job_uploads(bench):
    engine = FakeEngine(steps=2)
    at = bench(engine=engine, storage=MemoryStorage(fail=lambda _: wait_until(lambda: len(engine.made) == 4)))
    at.push(*(payload() for _ in range(4)))
    assert [outcome.status for outcome in at.ends(4)] == ["completed"] * 4


def test_files_that_an_earlier_claim_left_are_delivered_without_the_card(bench, tmp_path):
    body = payload()
    stuck = MemoryStorage(fail=unreachable(10_000))
    first = Bench(tmp_path, storage=stuck, grace=0.0).start()
    first.push(body)
    wait_until(lambda: first.outbox.find(job_id_of(body)))
    first.finish()
    second = bench(queue=first.queue)
    (outcome,) = second.ends()
    assert outcome.status == "completed"
    assert not second.engine.made


def test_files_that_can_never_be_delivered_are_given_up_in_the_end(bench, monkeypatch):
    monkeypatch.setattr("workers.delivery.courier.RETRY_AFTER", 0.02)
    at = bench(storage=MemoryStorage(fail=lambda _: {}["a fault of our own"]))
    at.push(payload())
    (outcome,) = at.ends()
    assert outcome.status == "failed"
    assert len(at.engine.made) == 1
    assert at.outbox.find(outcome.job_id) is None


def test_a_remembered_result_needs_only_its_callback(bench):
    queue, body = MemoryQueue(), payload()
    queue.push(body)
    queue.claim("a" * 32)
    outcome = Report.of_failure(job_id_of(body), Rejected("Made before."))
    queue.remember("a" * 32, job_id_of(body), outcome.record())
    queue.expire(["a" * 32])
    at = bench(queue=queue)
    (told,) = at.ends()
    assert told.error_message == "Made before."
    assert not at.engine.made


def test_a_result_that_was_delivered_is_acknowledged_in_silence(bench):
    at = bench()
    body = payload()
    at.push(body)
    at.ends()
    at.push(body)
    wait_until(lambda: not at.queue.waiting() and not at.queue._held and at.is_settled())
    assert len(at.callbacks.outcomes) == 1


def test_when_asked_to_stop_a_short_job_is_finished_and_delivered(bench):
    at = bench(engine=FakeEngine(step_seconds=0.02, steps=10))
    at.push(payload())
    wait_until(lambda: at.leases.tokens)
    assert at.finish() == 0
    assert len(at.callbacks.outcomes) == 1


def test_when_asked_to_stop_a_long_job_goes_back_to_the_head_uncounted(bench):
    at = bench(engine=FakeEngine(step_seconds=0.05, steps=10_000), grace=1.0)
    at.push(payload())
    wait_until(lambda: at.worker.watch.done > 2)
    assert at.finish() == 0
    reply = at.queue.claim("f" * 32)
    assert reply.claim.attempt == 1
    assert reply.claim.crashes == 0


def test_a_second_signal_gives_everything_back_at_once(bench):
    at = bench(storage=MemoryStorage(fail=unreachable(10_000)), grace=3600.0)
    at.push(payload())
    wait_until(lambda: at.engine.made)
    at.stop.request()
    assert at.finish() == 0
    assert at.queue.claim("f" * 32).claim.attempt == 1


def test_an_unreachable_queue_is_not_an_empty_one(bench, monkeypatch):
    monkeypatch.setattr("workers.claiming.BACK_OFF", (0.05,))
    queue = MemoryQueue()
    troubles = iter([Unreachable("no answer"), Unreachable("429", retry_after=0.1), ClaimLost()])

    def before(method: str) -> None:
        if method == "claim" and (trouble := next(troubles, None)):
            raise trouble

    queue.before = before
    at = bench(queue=queue)
    at.push(payload())
    assert at.ends()[0].status == "completed"


def test_a_claim_whose_reply_was_lost_is_found_again(bench, monkeypatch):
    monkeypatch.setattr("workers.claiming.BACK_OFF", (0.05,))
    queue = MemoryQueue()
    lost = iter([Unreachable("reply lost")])

    def after(method: str) -> None:
        if method == "claim" and queue_held(queue) and (trouble := next(lost, None)):
            raise trouble

    queue.after = after
    at = bench(queue=queue)
    at.push(payload())
    assert at.ends()[0].metadata["attempt"] == 1


def queue_held(queue: MemoryQueue) -> bool:
    return queue.waiting() == 0


def test_a_broken_engine_ends_the_process_with_its_code_and_the_job_goes_back(bench):
    def breaks(_watch: object) -> None:
        raise EngineBroken("illegal memory access", exit_code=70)

    at = bench(engine=FakeEngine(evil={"bicycle": breaks}))
    at.push(payload())
    at._thread.join(60)
    assert at.exit_code == 70
    assert at.queue.claim("f" * 32).claim.attempt == 2


def test_without_a_writable_outbox_nothing_is_claimed(bench, tmp_path):
    (tmp_path / "outbox").write_text("a file where the folder should be")
    at = bench()
    at.push(payload())
    wait_until(lambda: at.worker.between == "unready")
    assert at.queue.waiting() == 1
