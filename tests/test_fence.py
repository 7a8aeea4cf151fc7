"""The fence: who may have lost a claim asks the queue before every effect outside, and who lost it has none."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

from workers import fence
from workers.claim import Beat, BeatReply, Claim
from workers.errors import Cancelled, ClaimLost, Unreachable
from workers.job import Artifact
from workers.lease import FRESH, SURE, Leases
from workers.local.stack import LocalStack
from workers.storage import SupabaseStorage
from workers.watch import Watch

CLAIM = Claim("t" * 32, "{}", attempt=1, crashes=0, fence=7)
WELL, LOST = BeatReply(), BeatReply(lost=frozenset({CLAIM.token}))


class Queue:
    """Answers every beat in the same way and counts them."""

    def __init__(self, reply: BeatReply | Exception = WELL) -> None:
        self.reply = reply
        self.beats: list[str] = []

    def beat(self, beats: list[Beat]) -> BeatReply:
        self.beats += [beat.token for beat in beats]
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def held(queue: Queue, claim: Claim, interval: float = 10.0) -> Leases:
    leases = Leases(queue, interval=interval)
    leases.hold(claim, "a job", Watch())
    return leases


def asked(seconds_ago: float) -> Claim:
    return replace(CLAIM, asked=time.monotonic() - seconds_ago)


def test_a_claim_that_was_just_granted_passes_without_a_command():
    queue = Queue()
    held(queue, asked(0)).confirm(CLAIM.token)
    assert not queue.beats


def test_what_counts_is_when_the_claim_was_asked_for_not_when_its_reply_was_used():
    queue = Queue(LOST)
    with pytest.raises(ClaimLost):
        held(queue, asked(FRESH + 1)).confirm(CLAIM.token)


def test_a_claim_of_unknown_age_is_asked_about():
    queue = Queue()
    assert CLAIM.asked == -math.inf
    held(queue, CLAIM).confirm(CLAIM.token)
    assert queue.beats == [CLAIM.token]


def test_the_answer_holds_for_a_moment():
    queue = Queue()
    leases = held(queue, CLAIM)
    for _ in range(3):
        leases.confirm(CLAIM.token)
    assert len(queue.beats) == 1


def test_a_short_lease_has_a_shorter_moment():
    queue = Queue()
    leases = held(queue, CLAIM, interval=0.0)
    leases.confirm(CLAIM.token)
    leases.confirm(CLAIM.token)
    assert len(queue.beats) == 2


@pytest.mark.parametrize(
    ("reply", "error"), [(LOST, ClaimLost), (BeatReply(cancelled=frozenset({CLAIM.token})), Cancelled)]
)
def test_bad_news_is_not_forgotten_with_the_watch_that_heard_it(reply, error):
    leases = held(Queue(reply), CLAIM)
    with pytest.raises(error):
        leases.confirm(CLAIM.token)
    leases.hold(CLAIM, "a job", Watch())
    with pytest.raises(error):
        leases.confirm(CLAIM.token)


def test_while_nobody_can_say_nothing_passes():
    with pytest.raises(Unreachable):
        held(Queue(Unreachable("no answer")), CLAIM).confirm(CLAIM.token)


def test_a_claim_that_was_let_go_does_not_pass():
    leases = held(Queue(), asked(0))
    leases.let_go(CLAIM.token)
    with pytest.raises(ClaimLost):
        leases.confirm(CLAIM.token)


def test_a_watch_that_stands_still_is_not_beaten_for_although_its_neighbour_is():
    queue, now = Queue(), 0.0
    leases = Leases(queue, interval=10.0)
    still, moving = Watch(lambda: now), Watch(lambda: now)
    leases.hold(replace(CLAIM, token="still"), None, still)
    leases.hold(replace(CLAIM, token="moving"), None, moving)
    now = still.deadline + 1
    moving.step(1, 2)
    leases.beat_all()
    assert queue.beats == ["moving"]


@pytest.mark.parametrize(("seconds_ago", "sure"), [(0.0, True), (SURE * 10 - 1, True), (SURE * 10 + 1, False)])
def test_without_asking_a_claim_passes_as_long_as_its_lease_cannot_have_ended(seconds_ago, sure):
    queue = Queue()
    leases = held(queue, asked(seconds_ago), interval=10.0)
    if sure:
        leases.confirm(CLAIM.token, ask=False)
    else:
        with pytest.raises(Unreachable):
            leases.confirm(CLAIM.token, ask=False)
    assert not queue.beats


PIECE = 65_536
USER = "11111111-2222-4333-8444-555555555555"


@pytest.mark.ring2
@pytest.mark.parametrize("passed", [0, 1, 3])
def test_who_loses_the_claim_in_the_middle_of_an_upload_stores_nothing(stack: LocalStack, tmp_path: Path, passed):
    looks = iter(range(passed))

    def look() -> None:
        if next(looks, None) is None:
            raise ClaimLost

    with pytest.raises(ClaimLost), fence.before_bytes_leave(look):
        upload(stack, tmp_path)
    assert not stack.objects()


@pytest.mark.ring2
def test_an_upload_looks_before_every_piece(stack: LocalStack, tmp_path: Path):
    looks: list[None] = []
    with fence.before_bytes_leave(lambda: looks.append(None)):
        upload(stack, tmp_path)
    assert len(looks) == 5
    assert len(stack.objects()) == 1


def upload(stack: LocalStack, folder: Path) -> None:
    (folder / "0.png").write_bytes(bytes(5 * PIECE))
    artifact = Artifact(0, folder / "0.png", "image/png", (64, 64), frames=1, seed=7)
    storage = SupabaseStorage(stack.env["SUPABASE_URL"], stack.env["SUPABASE_SERVICE_KEY"])
    storage.put(artifact, "image_fast", USER, USER)
    storage.close()
