"""Prompts at rest: covered in the outbox and in redis, and given up with their key."""

from __future__ import annotations

import json
import time

import pytest

from tests.support import TOKEN, run
from workers.delivery.outbox import Outbox, Sealed
from workers.delivery.report import Report
from workers.job import Artifact, Outcome
from workers.queue.upstash import UpstashQueue
from workers.safety.veil import Veil

USER, JOB = "11111111-2222-4333-8444-555555555555", "22222222-2222-4333-8444-555555555555"
WORDS = "a marigold in a blue pot"
SAID = {"original_prompt": WORDS, "dropped_terms": [WORDS], "seed": 7}
VEIL = Veil("a key")


def report() -> Report:
    outcome = Outcome(JOB, "image_fast", "completed", enhanced_prompt=WORDS, metadata=SAID)
    return Report(outcome, USER)


@pytest.fixture
def queue(gateway):
    """Opens one queue under a veil, or under none."""
    opened = []

    def open_one(veil: Veil | None = VEIL, **options) -> UpstashQueue:
        opened.append(UpstashQueue("wan_queue", gateway.url, TOKEN, lease=45.0, veil=veil, **options))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def remembered(queue):
    """A job whose result is remembered, and which waits to be claimed again. Opens its queue anew."""
    ours = queue()
    ours.push(json.dumps({"id": JOB}))
    ours.claim("a" * 32)
    ours.remember("a" * 32, JOB, report().record())
    ours.release("a" * 32, counted=False)
    return queue


def test_redis_holds_no_word_of_a_remembered_result(remembered, rest):
    held = json.dumps(run(rest, "HGETALL", f"wan_queue:result:{JOB}"))
    assert "veiled" in held
    assert not [word for word in ("marigold", "original_prompt") if word in held]


def test_the_next_claim_brings_the_result_as_it_was(remembered):
    claim = remembered().claim("b" * 32).claim
    assert Report.from_record(claim.result) == report()


@pytest.mark.parametrize("veil", [Veil("another key"), None])
def test_under_another_key_a_job_is_told_without_its_words(remembered, veil):
    claim = remembered(veil).claim("b" * 32).claim
    outcome = Report.from_record(claim.result).outcome
    assert (outcome.job_id, outcome.status) == (JOB, "completed")
    assert (outcome.enhanced_prompt, dict(outcome.metadata)) == (None, {})


def test_results_of_an_earlier_release_are_still_read(queue):
    before, after = queue(None), queue()
    before.push(json.dumps({"id": JOB}))
    before.claim("a" * 32)
    before.remember("a" * 32, JOB, report().record())
    before.release("a" * 32, counted=False)
    assert Report.from_record(after.claim("b" * 32).claim.result) == report()


def sealed(root, veil: Veil | None) -> Outbox:
    outbox = Outbox(root, min_free=0, veil=veil)
    folder = outbox.stage("token")
    (folder / "0.png").write_bytes(b"pixels")
    artifact = Artifact(0, folder / "0.png", "image/png", (8, 8), 1, 7)
    outbox.seal(folder, Sealed(folder, JOB, "image_fast", USER, (artifact,), WORDS, SAID))
    return outbox


def test_the_outbox_holds_no_word_of_a_prompt_but_finds_it_again(tmp_path):
    found = sealed(tmp_path, VEIL).find(JOB)
    assert (found.enhanced_prompt, found.metadata) == (WORDS, SAID)
    assert b"marigold" not in b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize("veil", [Veil("another key"), None])
def test_files_under_another_key_are_delivered_without_their_words(tmp_path, veil):
    sealed(tmp_path, VEIL)
    found = Outbox(tmp_path, min_free=0, veil=veil).find(JOB)
    assert (len(found.artifacts), found.user_id) == (1, USER)
    assert (found.enhanced_prompt, dict(found.metadata)) == (None, {})


def test_files_of_an_earlier_release_are_still_read(tmp_path):
    sealed(tmp_path, None)
    assert Outbox(tmp_path, min_free=0, veil=VEIL).find(JOB).metadata == SAID


def test_the_dead_list_forgets_what_is_old_and_nothing_else(queue):
    ours, now = queue(), time.time()
    for age, number in ((40, 1), (35, 2), (1, 3)):
        old = queue(clock=lambda age=age: now - age * 86_400)
        old.push(json.dumps({"id": JOB, "number": number}))
        old.claim(str(number) * 32)
        old.bury(str(number) * 32, f'a reason, "at":{number}, \\"at\\":9')
    assert ours.prune_dead(now - 30 * 86_400) == 2
    assert [json.loads(entry.body)["number"] for entry in ours.dead()] == [3]
    assert ours.prune_dead(now - 30 * 86_400) == 0
