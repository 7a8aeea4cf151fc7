"""Jobs that the queue forgot are found by their rows in the database, and brought back."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest
from office import PRESETS, Office, ago
from queue_bench import new_token, run_down
from support import wait_until

from workers import payload
from workers.supervision.reconciler import LOST, made_at, rebuilt


def test_a_redis_that_comes_back_from_an_older_copy_loses_no_job(office: Office) -> None:
    early = [office.submit() for _ in range(8)]
    office.work(3)
    copy = office.copy()
    late = [office.submit() for _ in range(5)] + [office.submit("video_fast")]
    office.work(4)
    office.set_back(copy)
    for minutes in (3, 6, 9):
        office.work()
        office.work(kind="wan")
        office.reconcile(minutes=minutes)
        run_down(office.redis, 180)
    office.work()
    office.work(kind="wan")
    assert office.states() == {"completed"}
    assert set(office.made) == {*early, *late}


def test_a_job_that_waits_is_not_lost(office: Office) -> None:
    job = office.submit()
    office.reconcile()
    assert office.work() == [job]


def test_a_lost_job_is_restored_while_younger_ones_wait(office: Office) -> None:
    lost = office.submit()
    office.lose_everything()
    office.change(lost, created_at=ago(10))
    waiting = office.submit()
    office.reconcile(minutes=0)
    assert office.work() == [lost, waiting]


@pytest.mark.parametrize(("minutes", "restored"), [(29, 0), (31, 0), (33, 1)])
def test_a_job_that_may_still_be_in_the_list_is_left_alone(office: Office, minutes: float, restored: int) -> None:
    job = office.submit()
    office.lose_everything()
    office.change(job, created_at=ago(minutes))
    office.queues["sdxl"].push(json.dumps({"created_at": ago(30)}))
    office.reconcile(minutes=0)
    assert len(office.redis.keys("sdxl_queue:restored:*")) == restored


def test_where_the_oldest_does_not_say_its_age_nothing_is_judged(office: Office) -> None:
    office.submit()
    office.lose_everything()
    office.queues["sdxl"].push("{}")
    office.reconcile()
    assert not office.redis.keys("sdxl_queue:restored:*")


def _traces(office: Office, job: str) -> dict[str, Any]:
    queue, token = office.queues["sdxl"], new_token()

    def claimed() -> None:
        assert queue.claim(token).claim

    def settle(ending: Any) -> None:
        claimed()
        ending()

    return {
        "claimed": claimed,
        "given back": lambda: settle(lambda: queue.release(token, counted=False)),
        "parked": lambda: settle(lambda: queue.park(token, 600, counted=False)),
        "dead": lambda: settle(lambda: queue.bury(token, "given up", job)),
        "ended": lambda: settle(lambda: (queue.remember(token, job, {"status": "failed"}), queue.ack(token, job))),
        "cancelled": lambda: settle(lambda: (office.redis.set(f"cancel:{job}", "1"), queue.ack(token, job))),
    }


@pytest.mark.parametrize("state", ["claimed", "given back", "parked", "dead", "ended", "cancelled"])
def test_a_job_that_left_a_trace_is_not_lost(office: Office, state: str) -> None:
    job = office.submit()
    _traces(office, job)[state]()
    office.reconcile()
    assert not office.redis.keys("sdxl_queue:restored:*")


def test_a_job_is_given_time_before_it_counts_as_lost(office: Office) -> None:
    job = office.submit()
    office.lose_everything()
    office.reconcile(minutes=1.9)
    assert office.work() == []
    office.reconcile(minutes=2.1)
    assert office.work() == [job]


def test_a_job_of_yesterday_is_left_alone_since_its_result_is_no_longer_remembered(office: Office) -> None:
    office.submit()
    office.lose_everything()
    office.reconcile(minutes=24 * 60)
    assert office.work() == []


def test_one_reconciler_leads_at_a_time(office: Office) -> None:
    office.submit()
    office.lose_everything()
    office.redis.set("sdxl_queue:reconciler", "two", px=1000)
    office.reconcile(who="one")
    assert office.work() == []


def test_a_job_is_brought_back_once_a_day(office: Office) -> None:
    office.submit()
    office.lose_everything()
    for _ in range(3):
        office.reconcile()
        run_down(office.redis, 120)
    assert office.queues["sdxl"].waiting() == 1


def test_a_job_put_back_from_the_dead_list_is_not_taken_for_lost(office: Office) -> None:
    job = office.submit()
    queue = office.queues["sdxl"]
    queue.claim("a")
    queue.bury("a", "given up", job)
    office.change(job, created_at=ago(10))
    office.submit()
    queue.requeue("a")
    office.reconcile(minutes=0)
    assert queue.waiting() == 2


def test_a_job_whose_row_does_not_hold_its_prompt_fails_with_a_sentence(office: Office) -> None:
    job = office.submit()
    office.lose_everything()
    office.change(job, metadata={"num_images": 1, "prompt": None})
    office.reconcile()
    row = office.stack.job(job)
    assert (row["status"], row["error_message"]) == ("failed", LOST)


def test_without_open_jobs_no_command_is_sent(office: Office) -> None:
    before = office.redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    office.reconcile()
    assert office.redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0) == before


def test_a_reconciler_goes_on_after_the_database_was_away(office: Office) -> None:
    job = office.submit()
    office.lose_everything()
    office.stack.double_faults.add("error", path="/rest/v1/jobs", count=2)
    with closing(office.reconciler(interval=0.05)) as reconciler:
        office.now += 180
        reconciler.start()
        wait_until(lambda: office.queues["sdxl"].waiting())
    assert office.work() == [job]


def test_a_rebuilt_message_is_the_producers_as_far_as_the_row_knows(office: Office) -> None:
    for job_type, preset in PRESETS.items():
        job = office.stack.submit(job_type, "a lighthouse at dusk", num_images=1)
        (raw,) = office.redis.lrange(f"{preset.kind}_queue", 0, 0)
        (row,) = office.rows.of([job])
        first, again = payload.parse(raw.decode()), payload.parse(rebuilt(row) or "")
        for name in ("id", "type", "user_id", "prompt", "rating", "tier"):
            assert getattr(again, name) == getattr(first, name), name
        assert again.metadata == first.metadata


def test_a_row_that_kept_its_message_gives_back_every_word_of_it() -> None:
    message = {"id": "a", "prompt": "a lighthouse at dusk", "rating": "sfw", "priority": 10, "config": {"seed": 0}}
    assert json.loads(rebuilt({"id": "a", "payload": message, "metadata": {}}) or "") == message


@pytest.mark.parametrize("kept", [None, "text", {}, {"id": "b"}])
def test_what_is_not_the_jobs_own_message_is_not_taken_for_it(kept: object) -> None:
    assert rebuilt({"id": "a", "payload": kept, "metadata": {}}) is None


@pytest.mark.parametrize("metadata", [None, "text", {}, {"prompt": None}, {"prompt": 5}])
def test_a_row_without_a_prompt_cannot_be_rebuilt(metadata: object) -> None:
    assert rebuilt({"metadata": metadata}) is None


def test_a_time_is_read_in_every_spelling_of_the_database() -> None:
    spellings = ["2025-07-15T02:12:30.489Z", "2025-07-15T02:12:30.489+00:00", "2025-07-15T04:12:30.489000+02:00"]
    assert {made_at({"created_at": text}) for text in spellings} == {1752545550.489}
