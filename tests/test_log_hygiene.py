"""Whatever a job says, and however things break: no prompt, key or signed address in any output of any process."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import sys
import threading
import uuid
import warnings
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog

from tests.double import USER
from tests.pod import Pod, ask
from tests.receiver import Answer, running_receiver
from workers import logs
from workers.local.stack import SECRET, LocalStack
from workers.logs import catch_the_rest, configure, log

ring2 = pytest.mark.ring2

PROMPT = "a turquoise kiosk under a striped awning"
SIGNATURE = "planted-signature"
RUNPOD = "planted-runpod-key"
ADDRESS = f"https://project.example/a.png?token={SIGNATURE}"


def planted(stack: LocalStack) -> str:
    """All that no output may hold, in one text."""
    keys = (stack.env["SUPABASE_SERVICE_KEY"], stack.env["UPSTASH_REDIS_REST_TOKEN"], SECRET)
    return " ".join((PROMPT, ADDRESS, *keys))


def leaks(text: str, stack: LocalStack) -> list[str]:
    """What of it is in a text, as it is or in another coat."""
    secrets = [*planted(stack).split()[-3:], SIGNATURE, RUNPOD, "turquoise", "kiosk", "awning"]
    found = []
    for secret in secrets:
        coats = {secret, quote(secret, safe=""), secret.encode().hex(), json.dumps(secret)[1:-1]}
        coats |= {b64encode(b"x" * pad + secret.encode()).decode().strip("=")[4:-4] for pad in range(3)}
        found += [secret for coat in coats if len(coat) > 4 and coat.lower() in text.lower()]
    return found


def payload(job_type: str = "image_fast", prompt: str = PROMPT, **values: object) -> str:
    job = {"id": str(uuid.uuid4()), "type": job_type, "user_id": USER, "prompt": prompt}
    return json.dumps(job | values)


BAD = (
    payload()[:-10],
    payload(config={"x": 1e300}),
    payload(job_type=PROMPT[:60]),
    payload(job_type="sdxl_image_fast"),
    payload(user_id=PROMPT),
    payload(prompt=PROMPT * 500),
    payload(rating="adult"),
    payload(config={"reference_image_url": ADDRESS}),
    payload(metadata=[PROMPT]),
    payload(prompt=7, negative_prompt=PROMPT),
    json.dumps({"data": PROMPT}),
    json.dumps([payload(), payload()]),
    PROMPT,
)


@pytest.fixture
def talkative(pod, tmp_path, stack) -> Callable[..., Pod]:
    """Pods that say all they can, on stdout and into files, in interpreters of their own for the sake of warnings."""
    loud = {"log_level": "debug", "log_dir": tmp_path / "logs", "pythonwarnings": "always", "nursery": None}
    return functools.partial(pod, runpod_api_key=RUNPOD, evil_planted=planted(stack), **loud)


def everything(at: Pod) -> str:
    """All that a pod has said anywhere."""
    return "".join(path.read_text() for path in [at.output, *(at.folder / "logs").glob("*")])


def push(stack: LocalStack, *bodies: str) -> None:
    ask(stack, "LPUSH", "wan_queue", *bodies)


def is_done(stack: LocalStack) -> bool:
    return not any(ask(stack, *command) for command in (("LLEN", "wan_queue"), ("HLEN", "wan_queue:inflight")))


def test_the_search_finds_what_is_planted_in_any_coat(stack):
    for text in (planted(stack), quote(planted(stack)), b64encode(planted(stack).encode()).decode()):
        assert len(leaks(text, stack)) >= 5


@ring2
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_successes_refusals_and_failures_leave_no_trace(talkative, stack, log_format):
    at = talkative(log_format=log_format)
    push(stack, *BAD)
    jobs = [stack.submit(kind, PROMPT, negative_prompt=PROMPT) for kind in ("image_fast", "image7b_fast_enhanced")]
    jobs += [stack.submit("image_fast", f"{PROMPT}, {evil}") for evil in ("a parrot", "a storm")]
    assert [stack.wait_for(job)["status"] for job in jobs[:3]] == ["completed"] * 3
    at.wait_until(lambda: is_done(stack) and "job failed" in at.text())
    assert at.end() == 0
    assert everything(at).count("\n") > 100
    assert leaks(everything(at), stack) == []


@ring2
def test_what_is_told_to_users_and_operators_quotes_no_prompt(talkative, stack):
    at = talkative()
    push(stack, *BAD)
    at.wait_until(lambda: is_done(stack))
    told = [json.dumps(call.body) for call in stack.double.callbacks() if call.body["status"] == "failed"]
    kept = [entry.partition("\n")[0] for entry in ask(stack, "LRANGE", "wan_queue:dead", 0, -1)]
    assert len(told) >= 8
    assert len(kept) >= 3
    assert leaks(" ".join(told + kept), stack) == []


@ring2
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_what_other_services_say_of_their_errors_is_not_repeated(talkative, stack, status):
    with running_receiver() as receiver:
        receiver.answers += [Answer(status, {"error": planted(stack), "message": planted(stack)})] * 100
        at = talkative(supabase_url=receiver.url, drain_seconds=4)
        push(stack, payload(), payload(job_type="nothing"))
        at.wait_until(lambda: len({request.path for request in receiver.requests}) >= 2)
        at.wait_until(lambda: at.text().count("callback failed") >= 2)
        assert at.end() == 0
    assert "warning" in everything(at)
    assert leaks(everything(at), stack) == []


@ring2
def test_what_the_queue_says_of_its_errors_is_not_repeated(talkative, stack):
    with running_receiver() as receiver:
        receiver.answers += [Answer(400, {"error": f"ERR {planted(stack)}"})] * 50
        at = talkative(upstash_redis_rest_url=receiver.url)
        assert at.process.wait(60) == 75
    assert "queue unreachable" in everything(at)
    assert leaks(everything(at), stack) == []


@ring2
def test_neither_supervisor_nor_arguments_nor_heartbeats_tell_anything(talkative, stack):
    at = talkative("orchestrator")
    assert stack.wait_for(stack.submit("image_fast", f"{PROMPT}, a storm"))["status"] == "failed"
    at.wait_until(at.beat)
    os.kill(at.beat().pid, signal.SIGKILL)
    at.wait_for("worker ended")
    job = stack.submit("image_fast", f"{PROMPT}, a frozen lake")
    at.wait_until(lambda: at.beat() and at.beat().job == job)
    process = Path(f"/proc/{at.beat().pid}")
    said = (at.run_dir / "wan.heartbeat").read_text() + (process / "cmdline").read_text()
    assert RUNPOD not in (process / "environ").read_text()
    assert leaks(said + everything(at), stack) == []


@pytest.fixture
def _process_as_before(monkeypatch):
    for owner, name in ((sys, "excepthook"), (threading, "excepthook"), (sys, "unraisablehook")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(logging, "raiseExceptions", True)
    root, before, factory = logging.getLogger(), structlog.get_config(), logging.getLogRecordFactory()
    handlers, level = root.handlers[:], root.level
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield
    for handler in root.handlers:
        with suppress(OSError):
            handler.close()
    root.handlers[:], root.level = handlers, level
    logging.setLogRecordFactory(factory)
    structlog.configure(**before)


@pytest.mark.usefixtures("_process_as_before")
class TestOneProcess:
    def test_a_warning_is_an_event_with_its_place(self, capsys):
        configure(fmt="json")
        catch_the_rest()
        warnings.warn(PROMPT, UserWarning, stacklevel=1)
        said = json.loads(capsys.readouterr().out)
        assert (said["event"], said["category"]) == ("library warning", "UserWarning")
        assert said["at"].startswith("test_log_hygiene.py:")

    def test_an_exception_that_nobody_caught_is_an_event_with_its_place(self, capsys):
        configure(fmt="json")
        catch_the_rest()
        thread = threading.Thread(target=lambda: json.loads(PROMPT))
        thread.start()
        thread.join()
        output = capsys.readouterr()
        said = json.loads(output.out)
        assert (said["event"], said["error"], output.err) == ("unhandled", "JSONDecodeError", "")

    def test_a_log_file_is_rotated_and_the_oldest_is_dropped(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(logs, "FILE_BYTES", 2000)
        configure(fmt="text", file=tmp_path / "logs/wan.log")
        for job in range(500):
            log.info("delivered", job=job)
        assert len(capsys.readouterr().out.splitlines()) == 500
        files = sorted((tmp_path / "logs").iterdir())
        assert [file.name for file in files] == ["wan.log", *(f"wan.log.{n}" for n in range(1, logs.FILES_KEPT + 1))]
        assert all(file.stat().st_size <= 2000 for file in files)
        assert json.loads(files[0].read_text().splitlines()[-1])["job"] == 499

    def test_a_full_disk_costs_no_event_on_stdout(self, capsys):
        configure(fmt="json", file=Path("/dev/full"))
        catch_the_rest()
        for _ in range(1000):
            log.info("delivered")
        output = capsys.readouterr()
        assert (len(output.out.splitlines()), output.err) == (1000, "")


@ring2
def test_a_log_folder_that_cannot_be_made_is_said_at_the_start(talkative, tmp_path):
    (tmp_path / "file").touch()
    at = talkative(log_dir=tmp_path / "file/logs")
    assert at.process.wait(60) == 64
    assert "LOG_DIR" in at.text()
