"""Any sequence of claims, beats, endings, deaths and stale calls: every job is in exactly one place afterwards.

`QUEUE_EXAMPLES` says how many sequences are tried on the redis socket; a fortieth of them also go through REST.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable

import valkey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from queue_bench import LEASE, NAME, connect, new_token, run_down, socket_queue
from queue_model import HASHES, Expected, Holding, Model, Seen, job_of, look
from support import RunningGateway

from workers.claim import Beat, Claim
from workers.errors import ClaimLost
from workers.local.redis import RedisServer
from workers.queue.upstash import UpstashQueue

EXAMPLES = int(os.environ.get("QUEUE_EXAMPLES", "60"))
MAX_COPIES = 5

tokens = st.integers(min_value=0, max_value=30)
"""How many tokens back a call reaches: the past ones are repeated by workers that heard nothing, hung or died."""


class QueueMachine(RuleBasedStateMachine):
    def __init__(self, redis: valkey.Valkey, queue: UpstashQueue) -> None:
        super().__init__()
        redis.flushdb()
        self.redis, self.queue, self.model = redis, queue, Model()

    @rule()
    def push(self) -> None:
        self._push(f"job-{len(self.model.pushed)}")

    @rule(back=tokens)
    def push_copy(self, back: int) -> None:
        bodies = list(self.model.pushed)
        if bodies and sum(len(self._copies(body)) - 1 for body in bodies) < MAX_COPIES:
            self._push(job_of(bodies[-1 - back % len(bodies)]))

    @rule()
    def claim(self) -> None:
        """The reply may be lost: nothing in the model but this token's repeated use depends on it."""
        token = new_token()
        self.model.made.append(token)
        self._claim_fresh(token)

    @precondition(lambda self: self.model.made)
    @rule(back=tokens)
    def repeat_claim(self, back: int) -> None:
        token = self._token(back)
        if token in self.model.live:
            assert self.queue.claim(token).claim == self._described(self.model.live[token].claim)
            self.model.live[token].left = LEASE
            self._take_back()
        elif token in self.model.spent:
            self._claim_stale(token)
        else:
            self._claim_fresh(token)

    @precondition(lambda self: self.model.made)
    @rule(chosen=st.lists(tokens, min_size=1, max_size=4))
    def beat(self, chosen: list[int]) -> None:
        self._beat({self._token(back) for back in chosen})

    @precondition(lambda self: self.model.made)
    @rule(back=tokens)
    def remember(self, back: int) -> None:
        token = self._token(back)
        job = self._job(token) or "job-0"
        assert self.queue.remember(token, job, {"made by": token}) == (token in self.model.live)
        if token in self.model.live:
            self.model.results[job] = {"made by": token, "delivered": False}
            self.model.progress.pop(job, None)

    @precondition(lambda self: self.model.made)
    @rule(back=tokens)
    def ack(self, back: int) -> None:
        body = self._end(back, lambda token: self.queue.ack(token, self._job(token)))
        if body is not None:
            self.model.acked.append(body)
            self.model.results.get(job_of(body), {})["delivered"] = True

    @precondition(lambda self: self.model.made)
    @rule(back=tokens)
    def bury(self, back: int) -> None:
        self._end(back, lambda token: self.queue.bury(token, "given up"))

    @precondition(lambda self: self.model.made)
    @rule(back=tokens, counted=st.booleans())
    def release(self, back: int, counted: bool) -> None:
        body = self._end(back, lambda token: self.queue.release(token, counted=counted))
        if body is not None and not counted:
            self.model.pushed[body].attempt -= 1

    @precondition(lambda self: self.model.made)
    @rule(back=tokens, counted=st.booleans(), delay=st.sampled_from([0.5, 30, 300]))
    def park(self, back: int, counted: bool, delay: float) -> None:
        body = self._end(back, lambda token: self.queue.park(token, delay, counted=counted))
        if body is not None and not counted:
            self.model.pushed[body].attempt -= 1

    @rule()
    def requeue(self) -> None:
        for entry in self.queue.dead(0, 1):
            assert self.queue.requeue(entry.id)
            self.model.pushed[entry.body] = Expected()
            self.model.results.pop(job_of(entry.body), None)

    @precondition(lambda self: self.model.made)
    @rule(back=tokens)
    def a_worker_is_seen_dead(self, back: int) -> None:
        token = self._token(back)
        lasting = token in self.model.live and self.model.live[token].left > 0
        assert self.queue.expire([token]) == lasting
        if lasting:
            self.model.live[token].left = 0

    @rule(seconds=st.sampled_from([30, 50]), beating=st.booleans())
    def time_passes(self, seconds: float, beating: bool) -> None:
        """Who does not beat at least every thirty seconds is taken for dead by the next claim."""
        if beating:
            self._beat(set(self.model.live))
        run_down(self.redis, seconds)
        self.model.pass_time(seconds)

    @rule()
    def redis_forgets_its_scripts(self) -> None:
        self.redis.script_flush()

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        """Each rule is asked of one look at redis: the looks are most of what a step costs."""
        seen = look(self.redis)
        self._every_body_is_in_exactly_one_place(seen)
        self._every_stored_body_is_either_waiting_or_in_flight(seen)
        self._what_belongs_to_one_job_or_token_ends_by_itself(seen)
        self._progress_is_said_of_jobs_in_work_and_of_those_whose_worker_died_and_of_no_others(seen)

    def _every_body_is_in_exactly_one_place(self, seen: Seen) -> None:
        found = Counter(raw.decode() for raw in (*seen.new, *seen.hashes["bodies"].values()))
        found.update(self.model.acked)
        found.update(entry.decode().partition("\n")[2] for entry in seen.dead)
        assert found == Counter(list(self.model.pushed))

    def _every_stored_body_is_either_waiting_or_in_flight(self, seen: Seen) -> None:
        for name in HASHES:
            assert Counter(seen.hashes[name].keys()) == Counter([*seen.retry, *seen.in_flight]), name
        held = {token.decode() for token, fence in seen.in_flight.items() if int(fence)}
        assert held == self.model.live.keys()

    def _what_belongs_to_one_job_or_token_ends_by_itself(self, seen: Seen) -> None:
        lasting = {key for key, seconds in seen.lives.items() if seconds < 0}
        assert lasting <= {NAME, *(f"{NAME}:{part}" for part in (*HASHES, "retry", "inflight", "fence", "dead"))}

    def _progress_is_said_of_jobs_in_work_and_of_those_whose_worker_died_and_of_no_others(self, seen: Seen) -> None:
        said = {key.removeprefix("progress:") for key in seen.lives if key.startswith("progress:")}
        assert said == self.model.progress.keys()

    def _beat(self, names: set[str]) -> None:
        reply = self.queue.beat([Beat(name, self._job(name), {"step": 1}) for name in sorted(names)])
        assert reply.lost == names - self.model.live.keys()
        self.model.beat(names)

    def _push(self, job_id: str) -> None:
        body = json.dumps({"id": job_id, "number": len(self.model.pushed)})
        self.queue.push(body)
        self.model.pushed[body] = Expected()

    def _copies(self, body: str) -> list[str]:
        return [other for other in self.model.pushed if job_of(other) == job_of(body)]

    def _token(self, back: int) -> str:
        return self.model.made[-1 - back % len(self.model.made)]

    def _job(self, token: str) -> str | None:
        holding = self.model.live.get(token)
        return holding and job_of(holding.claim.body)

    def _described(self, claim: Claim) -> Claim:
        """The claim as a repeated call returns it: with the result that was remembered since."""
        result = self.model.results.get(job_of(claim.body))
        return Claim(claim.token, claim.body, claim.attempt, claim.crashes, claim.fence, result)

    def _claim_fresh(self, token: str) -> None:
        reply = self.queue.claim(token)
        self._take_back()
        if reply.claim is None:
            assert reply.waiting == 0
            return
        claim, expected = reply.claim, self.model.pushed[reply.claim.body]
        assert (claim.attempt, claim.crashes) == (expected.attempt, expected.crashes)
        assert claim == self._described(claim)
        assert claim.fence > self.model.last_fence
        assert job_of(claim.body) not in {job_of(holding.claim.body) for holding in self.model.live.values()}
        expected.attempt += 1
        self.model.live[token], self.model.last_fence = Holding(claim), claim.fence
        self.model.spent.add(token)

    def _claim_stale(self, token: str) -> None:
        try:
            reply = self.queue.claim(token)
        except ClaimLost:
            return
        raise AssertionError(f"a dead token was given {reply}")

    def _take_back(self) -> None:
        """Every claim takes back what the dead held, and counts a crash for each."""
        for token, holding in list(self.model.live.items()):
            if holding.left <= 0:
                self.model.pushed[self.model.live.pop(token).claim.body].crashes += 1

    def _end(self, back: int, ending: Callable[[str], bool]) -> str | None:
        token = self._token(back)
        assert ending(token) == (token in self.model.live)
        return self.model.let_go(token)


def chosen_settings(examples: int) -> settings:
    return settings(max_examples=examples, stateful_step_count=50, suppress_health_check=list(HealthCheck))


def explore(redis: valkey.Valkey, queue: UpstashQueue, examples: int) -> None:
    run_state_machine_as_test(lambda: QueueMachine(redis, queue), settings=chosen_settings(examples))


def test_no_sequence_of_events_loses_or_doubles_a_job(redis_server: RedisServer) -> None:
    with connect(redis_server.port) as redis:
        explore(redis, socket_queue(redis), EXAMPLES)


def test_nor_does_one_that_goes_through_rest(gateway: RunningGateway) -> None:
    queue = UpstashQueue(NAME, gateway.url, gateway.token, lease=LEASE)
    with connect(gateway.redis.port) as redis:
        explore(redis, queue, max(2, EXAMPLES // 40))
    queue.close()
