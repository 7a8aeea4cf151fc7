"""What the scripts leave in redis, and what they do when redis or a body is not as expected."""

from __future__ import annotations

import json
import time

import pytest
import valkey
from queue_bench import LEASE, NAME, claimed, id_of, is_stale, job, new_token, run_down
from support import wait_until

from workers import payload
from workers.claim import Beat
from workers.errors import ClaimLost, Rejected
from workers.queue.upstash import UpstashQueue

HOUR, DAY = 3600, 86_400
NOT_TEXT = b'{"id": "b91f", "prompt": "a lighthouse at dusk \xff\xfe"}'


def lasting_keys(redis: valkey.Valkey) -> set[str]:
    return {key.decode() for key in redis.scan_iter() if redis.ttl(key) < 0}


def stored_bodies(redis: valkey.Valkey) -> set[str]:
    return {raw.decode() for raw in redis.hvals(f"{NAME}:bodies")}


def test_a_repeated_claim_past_its_lease_overwrites_no_waiting_body(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    """The token's own name must not be the waiting job's name: the repeated claim would take A and lose B."""
    a, b = job(), job()
    direct.push(a)
    direct.push(b)
    claimed(direct, "x")
    claimed(direct, "y")
    run_down(redis, LEASE + 1)
    direct.release(claimed(direct, "z").token, counted=False)
    assert stored_bodies(redis) == {a, b}
    with pytest.raises(ClaimLost):
        direct.claim("y")
    assert stored_bodies(redis) == {a, b}
    assert "y" not in {raw.decode() for raw in redis.lrange(f"{NAME}:retry", 0, -1)}


def test_a_used_token_is_known_long_after_any_repeated_claim(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    direct.push(job())
    direct.push(job())
    direct.ack(claimed(direct, "a").token, None)
    run_down(redis, 10 * LEASE)
    assert is_stale(direct, "a")
    assert redis.ttl(f"{NAME}:used:a") <= HOUR


def test_a_token_that_names_a_stored_body_never_claims(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    direct.push(job())
    redis.hset(f"{NAME}:bodies", "a", job())
    assert is_stale(direct, "a")
    assert direct.waiting() == 1


def test_a_look_at_the_queue_says_how_many_wait_and_since_when(direct: UpstashQueue) -> None:
    assert (direct.sight().waiting, direct.sight().oldest) == (0, None)
    for second in (1, 2):
        direct.push(f'{{"id": "{second}", "created_at": "1970-01-01T00:00:0{second}Z"}}')
    assert (direct.sight().waiting, direct.sight().oldest) == (2, 1)


def test_a_finished_job_leaves_only_keys_that_end_by_themselves(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    body = job()
    direct.push(body)
    token = claimed(direct).token
    direct.beat([Beat(token, id_of(body), {"step": 1})])
    direct.remember(token, id_of(body), {"assets": []})
    direct.park(token, 1, counted=False)
    run_down(redis, 2)
    claimed(direct, "b")
    run_down(redis, LEASE + 1)
    direct.release(claimed(direct).token, counted=True)
    direct.ack(claimed(direct).token, id_of(body))
    assert lasting_keys(redis) == {f"{NAME}:fence"}
    assert redis.exists(f"{NAME}:owner:{id_of(body)}") == 0


def test_results_last_a_day_and_progress_ten_minutes(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    body = job()
    direct.push(body)
    token = claimed(direct).token
    direct.beat([Beat(token, id_of(body), {"step": 1})])
    assert 540 < redis.ttl(f"progress:{id_of(body)}") <= 600
    direct.remember(token, id_of(body), {"assets": []})
    direct.ack(token, id_of(body))
    assert DAY - 60 < redis.ttl(f"{NAME}:result:{id_of(body)}") <= DAY


def test_the_lease_and_the_owner_last_equally_long(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    body = job()
    direct.push(body)
    token = claimed(direct).token
    for _ in range(2):
        for key in (f"{NAME}:lock:{token}", f"{NAME}:owner:{id_of(body)}"):
            assert LEASE - 5 < redis.ttl(key) <= LEASE
        run_down(redis, 30)
        direct.beat([Beat(token, id_of(body))])
    assert redis.get(f"{NAME}:owner:{id_of(body)}") == token.encode()


def test_a_parked_job_has_a_lock_for_its_delay_and_no_owner(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    body = job()
    direct.push(body)
    direct.park(claimed(direct).token, 120, counted=False)
    (parked,) = redis.hkeys(f"{NAME}:inflight")
    assert 115 < redis.ttl(f"{NAME}:lock:{parked.decode()}") <= 120
    assert redis.exists(f"{NAME}:owner:{id_of(body)}") == 0


def test_the_producers_list_holds_only_what_waits(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    direct.push(job())
    direct.push(job())
    direct.release(claimed(direct).token, counted=True)
    claimed(direct)
    assert redis.llen(NAME) == 1


def test_the_dead_list_keeps_the_newest_thousand(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    redis.lpush(f"{NAME}:dead", *range(1000))
    direct.push(job())
    direct.bury(claimed(direct).token, "unreadable")
    assert redis.llen(f"{NAME}:dead") == 1000
    assert direct.dead(0, 1)[0].reason == "unreadable"
    assert redis.lindex(f"{NAME}:dead", -1) == b"1"


def test_a_body_that_is_not_text_is_claimed_refused_and_buried_byte_for_byte(
    redis: valkey.Valkey, direct: UpstashQueue
) -> None:
    redis.lpush(NAME, NOT_TEXT)
    claim = claimed(direct)
    assert claim.body.encode("utf-8", "surrogateescape") == NOT_TEXT
    with pytest.raises(Rejected):
        payload.parse(claim.body)
    assert direct.bury(claim.token, "unreadable")
    assert redis.lindex(f"{NAME}:dead", 0).endswith(b"\n" + NOT_TEXT)
    assert direct.requeue(direct.dead()[0].id)
    assert redis.lindex(NAME, 0) == NOT_TEXT


def test_scripts_that_redis_forgot_are_sent_again(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    direct.push(job())
    token = claimed(direct).token
    redis.script_flush()
    assert direct.beat([Beat(token)]).lost == frozenset()
    redis.script_flush()
    assert direct.ack(token, None)


def test_a_script_that_fails_half_way_loses_nothing(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    direct.push(job())
    redis.set(f"{NAME}:attempts", "not a hash")
    with pytest.raises(valkey.ResponseError):
        direct.claim("a")
    assert redis.llen(NAME) == 1
    redis.delete(f"{NAME}:attempts")
    assert claimed(direct, "b").attempt == 1


def test_many_copies_of_one_job_hold_up_the_others_for_a_few_claims_only(direct: UpstashQueue) -> None:
    twice, other = job(), job()
    direct.push(twice)
    claimed(direct)
    for body in (*[twice] * 25, other):
        direct.push(body)
    replies = [direct.claim(new_token()) for _ in range(3)]
    assert [reply.claim and reply.claim.body for reply in replies] == [None, None, other]
    assert replies[0].waiting == 16


def test_among_many_claims_the_dead_are_looked_for_once_a_second(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    for number in range(502):
        direct.push(job())
        claimed(direct, f"token-{number}")
    assert 0 < redis.pttl(f"{NAME}:reaped") <= 1000
    redis.persist(f"{NAME}:reaped")
    direct.expire(["token-0"])
    assert direct.claim("soon").claim is None
    redis.delete(f"{NAME}:reaped")
    assert claimed(direct, "a second later").crashes == 1


def test_an_id_that_waits_without_a_body_is_passed_over(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    redis.rpush(f"{NAME}:retry", "gone")
    direct.push(job())
    assert claimed(direct).attempt == 1


def test_a_claim_whose_body_is_gone_is_lost_and_forgotten(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    direct.push(job())
    claimed(direct, "a")
    redis.delete(f"{NAME}:bodies")
    assert direct.beat([Beat("a")]).lost == {"a"}
    assert not direct.release("a", counted=True)
    assert is_stale(direct, "a")
    run_down(redis, LEASE + 1)
    assert direct.claim("b").claim is None
    assert redis.hlen(f"{NAME}:inflight") == 0


@pytest.mark.parametrize("counter", [None, "nonsense", "3"])
def test_a_lost_or_spoilt_counter_gives_no_fence_twice(
    redis: valkey.Valkey, direct: UpstashQueue, counter: str | None
) -> None:
    for _ in range(5):
        direct.push(job())
    last = max(claimed(direct).fence for _ in range(4))
    redis.delete(f"{NAME}:fence")
    if counter:
        redis.set(f"{NAME}:fence", counter)
    wait_until(lambda: time.time_ns() // 1_000_000 > last)
    assert claimed(direct).fence > last


def test_an_id_too_long_or_a_body_too_large_is_not_read(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    direct.push(json.dumps({"id": "a" * 65}))
    direct.push(json.dumps({"id": "large", "prompt": "a red bicycle " * 20_000}))
    claimed(direct), claimed(direct)
    assert not redis.keys(f"{NAME}:owner:*")


def test_the_queues_of_two_kinds_do_not_touch_each_other(redis: valkey.Valkey, direct: UpstashQueue) -> None:
    other = UpstashQueue("wan_queue", "", "", lease=LEASE, connection=direct._connection)
    direct.push(job())
    assert other.claim(new_token()).claim is None
    assert claimed(direct).attempt == 1
