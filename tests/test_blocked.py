"""A blocked job leaves nothing: real processes, and then a search of their disk, redis, logs and storage.

The words planted in prompts are placeholders; what makes a prompt blocked are the two plainest terms of the lists.
"""

from __future__ import annotations

import json

import pytest

from tests.onnx_models import write_manifest, write_scorer
from tests.pod import Pod, ask, end_leases
from workers.safety.audit import Key, chains, records
from workers.safety.proof import prove

pytestmark = pytest.mark.ring2

PLANTED = "quillamoor"
REFUSED = f"a minor {PLANTED}, nsfw"
FINE = f"a red bicycle in {PLANTED}"
PICTURES = (b"\x89PNG", b"IHDR", b"ftypisom", b"WEBPVP8")


def submit(stack, prompt: str, **values) -> str:
    """A job with its row, as the platform queues it, and with what only the platform can say."""
    return stack.submit("image_fast", prompt, **values)


def terminal(stack, job: str) -> list[dict]:
    return [seen.body for seen in stack.double.callbacks(job) if seen.status in ("completed", "failed")]


def left_on_disk(at: Pod) -> bytes:
    return b"".join(file.read_bytes() for file in at.folder.rglob("*") if file.is_file())


def left_in_redis(stack) -> str:
    """Every key with all it holds."""
    readers = {
        "string": lambda key: ask(stack, "GET", key),
        "hash": lambda key: ask(stack, "HGETALL", key),
        "list": lambda key: ask(stack, "LRANGE", key, 0, -1),
    }
    return json.dumps([(key, readers[ask(stack, "TYPE", key)](key)) for key in ask(stack, "KEYS", "*")])


def test_of_blocked_jobs_nothing_is_left_anywhere(pod, stack):
    at = pod(evil_explicit="0.97", log_dir="logs")
    jobs = {"G1": submit(stack, REFUSED), "G3": submit(stack, FINE)}
    at.wait_until(lambda: all(terminal(stack, job) for job in jobs.values()))
    assert at.end() == 0
    for job in jobs.values():
        (told,) = terminal(stack, job)
        assert (told["status"], told["error_type"]) == ("failed", "policy")
        assert "content rules" in told["errorMessage"]
        assert PLANTED not in json.dumps(told)
    assert stack.objects() == []
    assert PLANTED not in left_in_redis(stack)
    disk = left_on_disk(at)
    assert not [word for word in (PLANTED.encode(), *PICTURES) if word in disk]
    assert at.generations() == 1
    lines = {line["gate"]: line for line in records(at.folder / "audit") if line["event"] == "blocked"}
    assert {gate: line["job"] for gate, line in lines.items()} == jobs
    assert (lines["G1"]["rule"], lines["G3"]["rule"]) == ("minor_sexual", "explicit_sfw")


def parked(stack) -> bool:
    return ask(stack, "HVALS", "wan_queue:inflight") == ["0", "0"]


def test_of_blocked_jobs_nothing_is_left_while_their_callback_waits(pod, stack):
    refused = stack.double_faults.add("error", path="/functions/v1/*", contains='"failed"', retry_after=3_600)
    at = pod(evil_explicit="0.97", log_dir="logs")
    jobs = [submit(stack, REFUSED, reference_image_url=f"https://{PLANTED}.example/a.png"), submit(stack, FINE)]
    at.wait_until(lambda: refused.struck == len(jobs) and parked(stack))
    assert PLANTED not in left_in_redis(stack)
    assert PLANTED.encode() not in left_on_disk(at)
    stack.double_faults.clear()
    end_leases(stack)
    at.wait_until(lambda: all(terminal(stack, job) for job in jobs))
    assert at.end() == 0
    assert {told["error_type"] for job in jobs for told in terminal(stack, job)} == {"policy"}
    assert ask(stack, "HLEN", "wan_queue:bodies") == 0
    assert at.generations() == 1


def test_the_search_finds_what_is_left_of_jobs_that_were_made(pod, stack):
    """So that the test above can fail."""
    stack.double_faults.add("error", path="/storage/v1/object/*", status=503)
    at = pod()
    submit(stack, FINE)
    at.wait_until(lambda: b"IHDR" in left_on_disk(at))
    assert PLANTED in left_in_redis(stack)


def test_of_a_delivered_job_no_word_is_left_on_disk_or_in_redis(pod, stack):
    at = pod()
    job = submit(stack, FINE)
    at.wait_until(lambda: terminal(stack, job) and not ask(stack, "HLEN", "wan_queue:inflight"))
    assert at.end() == 0
    assert PLANTED in json.dumps(terminal(stack, job))
    assert ask(stack, "EXISTS", f"wan_queue:result:{job}") == 1
    assert PLANTED not in left_in_redis(stack)
    assert PLANTED.encode() not in left_on_disk(at)


@pytest.mark.parametrize("deed", ["fails", "sleeps"])
def test_where_a_scorer_fails_the_job_is_blocked_and_the_worker_ends_with_73(pod, stack, deed):
    at = pod(evil_explicit=deed, evil_patience=0.3)
    job, other = submit(stack, FINE), submit(stack, FINE)
    assert at.process.wait(60) == 73
    at.wait_until(lambda: terminal(stack, job))
    assert terminal(stack, job)[0]["error_type"] == "policy"
    assert not [seen for seen in terminal(stack, other) if seen["status"] == "completed"]
    assert stack.objects() == []


def test_a_scorer_that_takes_the_process_down_lets_nothing_pass(pod, stack):
    job = submit(stack, FINE)
    first = pod(evil_explicit="dies")
    assert first.process.wait(60) == -9
    end_leases(stack)
    assert stack.objects() == []
    assert not list(first.outbox.glob("*/*"))
    second = pod()
    second.wait_until(lambda: terminal(stack, job))
    assert terminal(stack, job)[0]["status"] == "completed"
    assert second.end() == 0
    audit = first.folder / "audit"
    assert not [proof.fault for proof in (prove(audit, name, Key(b"any")) for name in chains(audit)) if proof.fault]


def test_a_worker_with_a_model_that_is_not_the_one_configured_ends_with_73(pod, tmp_path):
    write_scorer(tmp_path / "models" / "age.onnx")
    manifest = write_manifest(tmp_path, age={"file": "age.onnx", "sha256": "0" * 64})
    at = pod(evil_explicit="shipped", safety_manifest=manifest)
    assert at.process.wait(60) == 73
    assert "another SHA-256" in at.text()


def test_with_an_age_model_adult_jobs_are_judged_by_it(pod, tmp_path, stack):
    """The true chain from manifest to verdict, with a model that takes everybody for 19."""
    sha256 = write_scorer(tmp_path / "models" / "age.onnx", offset=19.0)
    manifest = write_manifest(tmp_path, age={"file": "age.onnx", "sha256": sha256})
    at = pod(evil_explicit="shipped", safety_manifest=manifest, max_rating="adult", default_rating="adult")
    job = submit(stack, FINE)
    at.wait_until(lambda: terminal(stack, job))
    assert terminal(stack, job)[0]["error_type"] == "policy"
    (line,) = [line for line in records(at.folder / "audit") if line["event"] == "blocked"]
    assert (line["rule"], line["scores"]["age"]) == ("minor_adult", 19.0)


def test_without_an_age_model_the_worker_is_ready_and_refuses_adult_jobs(pod, stack):
    at = pod(evil_explicit="shipped", max_rating="adult", default_rating="adult")
    job = submit(stack, FINE)
    at.wait_until(lambda: terminal(stack, job))
    assert terminal(stack, job)[0]["errorMessage"] == "Adult content is not available."
    assert at.events("ready")
