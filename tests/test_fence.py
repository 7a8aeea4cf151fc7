"""The last look: who may have lost the claim since the fence finishes no request that has an effect."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workers import fence
from workers.claim import Beat, BeatReply, Claim
from workers.errors import Cancelled, ClaimLost, Unreachable
from workers.job import Artifact
from workers.lease import SURE, Leases
from workers.local.stack import LocalStack
from workers.supabase.storage import SupabaseStorage
from workers.watch import Watch

TOKEN = "t" * 32
INTERVAL = 1000.0
PIECE = 65_536
USER = "11111111-2222-4333-8444-555555555555"


class Queue:
    """Answers every beat in the same way and counts them."""

    def __init__(self, **reply: frozenset[str]) -> None:
        self._reply = BeatReply(**reply)
        self.beats = 0

    def beat(self, beats: list[Beat]) -> BeatReply:
        self.beats += 1
        return self._reply


def held(queue: Queue, seconds_ago: float) -> Leases:
    leases = Leases(queue, interval=INTERVAL)
    claim = Claim(TOKEN, "{}", attempt=1, crashes=0, fence=7, asked=time.monotonic() - seconds_ago)
    leases.hold(claim, "a job", Watch())
    return leases


@pytest.mark.parametrize("seconds_ago", [0.0, SURE * INTERVAL - 60])
def test_the_last_look_passes_without_a_command_while_the_lease_cannot_have_ended(seconds_ago):
    queue = Queue()
    held(queue, seconds_ago).confirm(TOKEN, ask=False)
    assert not queue.beats


def test_the_last_look_stops_what_may_have_lost_its_lease():
    with pytest.raises(Unreachable):
        held(Queue(), SURE * INTERVAL + 1).confirm(TOKEN, ask=False)


@pytest.mark.parametrize(("reply", "error"), [("lost", ClaimLost), ("cancelled", Cancelled)])
def test_bad_news_is_not_forgotten_with_the_watch_that_heard_it(reply, error):
    leases = held(Queue(**{reply: frozenset({TOKEN})}), seconds_ago=INTERVAL)
    with pytest.raises(error):
        leases.confirm(TOKEN)
    leases.hold(Claim(TOKEN, "{}", attempt=1, crashes=0, fence=7), "a job", Watch())
    with pytest.raises(error):
        leases.confirm(TOKEN)


@pytest.fixture
def upload(stack: LocalStack, tmp_path: Path) -> Callable[[], None]:
    """Sends an object of five pieces."""
    (tmp_path / "0.png").write_bytes(bytes(5 * PIECE))
    artifact = Artifact(0, tmp_path / "0.png", "image/png", (64, 64), frames=1, seed=7)

    def put() -> None:
        storage = SupabaseStorage(stack.env["SUPABASE_URL"], stack.env["SUPABASE_SERVICE_KEY"])
        try:
            storage.put(artifact, "image_fast", USER, USER)
        finally:
            storage.close()

    return put


@pytest.mark.ring2
@pytest.mark.parametrize("passed", [0, 1, 3])
def test_who_loses_the_claim_in_the_middle_of_an_upload_stores_nothing(stack: LocalStack, upload, passed):
    looks = iter(range(passed))

    def look() -> None:
        if next(looks, None) is None:
            raise ClaimLost

    with pytest.raises(ClaimLost), fence.before_bytes_leave(look):
        upload()
    assert not stack.objects()


@pytest.mark.ring2
def test_an_upload_looks_before_every_piece(stack: LocalStack, upload):
    looks: list[None] = []
    with fence.before_bytes_leave(lambda: looks.append(None)):
        upload()
    assert len(looks) == 5
    assert len(stack.objects()) == 1
