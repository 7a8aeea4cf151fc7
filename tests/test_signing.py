"""No file leaves without its signature: it waits for whoever signs, and fails where nobody can."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.double import USER
from tests.pod import Pod
from tests.signer import TOKEN, SigningServer, running_signer
from tests.support import wait_until
from tests.workbench import Bench, payload
from workers.delivery import courier
from workers.errors import Unreachable
from workers.local.stack import LocalStack
from workers.provenance import credentials


class Signer:
    """Does as it is told, and counts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, 0
        self.signed: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> None:
        with self._lock:
            self.asked += 1
        if self.error is not None:
            raise self.error
        self.signed.append(path.name)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    monkeypatch.setattr(courier, "BACK_OFF", (0.01,))
    made: list[Bench] = []

    def make(**parts: object) -> Bench:
        made.append(Bench(tmp_path, **parts))
        return made[-1].start()

    yield make
    for each in made:
        each.finish()


def test_every_file_is_signed_before_any_leaves(bench):
    signer = Signer()
    at = bench(kind="sdxl", sign=signer)
    at.push(payload("sdxl_image_fast"))
    (outcome,) = at.ends()
    assert outcome.status == "completed"
    assert sorted(signer.signed) == [f"{index}.png" for index in range(6)]


def test_files_wait_while_nobody_answers_and_go_when_somebody_does(bench):
    signer = Signer(Unreachable("no answer"))
    at = bench(sign=signer)
    (job,) = at.push(payload())
    wait_until(lambda: signer.asked > 3)
    assert not at.storage.objects
    assert not at.callbacks.outcomes
    assert at.outbox.find(job) is None
    signer.error = None
    (outcome,) = at.ends()
    assert outcome.status == "completed"
    assert (len(at.engine.made), signer.signed) == (1, ["0.png"])


def test_while_files_wait_no_more_jobs_are_claimed_than_memory_holds(bench):
    signer = Signer(Unreachable("no answer"))
    at = bench(sign=signer)
    at.push(*(payload() for _ in range(6)))
    wait_until(lambda: not at.dispatch.has_room)
    wait_until(lambda: signer.asked > 20)
    assert len(at.engine.made) <= 3
    signer.error = None
    assert {outcome.status for outcome in at.ends(6)} == {"completed"}


def test_what_cannot_be_signed_is_not_delivered(bench, monkeypatch):
    monkeypatch.setattr(courier, "RETRY_AFTER", 0.01)
    at = bench(sign=Signer(credentials.SigningError("no")))
    at.push(payload())
    (outcome,) = at.ends()
    assert outcome.status == "failed"
    assert not at.storage.objects


# True processes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SigningServer]:
    with running_signer(tmp_path / "elsewhere") as server:
        yield server


@pytest.mark.ring2
def test_a_worker_signs_with_a_key_that_it_never_sees_and_waits_for_it(
    pod: Callable[..., Pod], stack, server, tmp_path
):
    server.status = 503
    worker = pod(c2pa_signer_url=server.url, c2pa_signer_token=TOKEN)
    job = stack.submit("image_fast", "a lighthouse at dusk", user_id=USER)
    worker.wait_for("unreachable")
    assert not stack.objects()
    server.status = 200
    worker.wait_for("delivered")
    path = tmp_path / "0.png"
    path.write_bytes(stored(stack, job))
    found = credentials.read(path, server.keys.root)
    assert found is not None
    assert found.state == "trusted"
    assert TOKEN not in worker.text()


def stored(stack: LocalStack, job: str) -> bytes:
    (entry,) = [entry for entry in stack.objects() if f"/{job}/" in entry["path"]]
    return stack.double.read(entry["bucket"], entry["path"])
