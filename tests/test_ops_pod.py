"""A real orchestrator, watched while its worker works, fails, is killed and comes back.

The run happens once; what was seen at each moment is kept, and each test looks at one part of it.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pod import Pod
from prometheus_client.parser import text_string_to_metric_families
from support import get

from bench.chaos.nursery import Nursery
from workers.local.stack import LocalStack
from workers.local.supabase.job_callback import Callback
from workers.ops.room import ADDRESS

pytestmark = pytest.mark.ring2

TOKEN = "a-token-of-the-operators"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
OWN = {"X-Ourvidz": "1"}
PROBES = ("/health", "/ready", "/ping")
SCRAPED = ("/metrics", "/status", "/history", "/events", "/", *PROBES)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Seen:
    """What was answered at which moment."""

    stack: LocalStack
    jobs: dict[str, str] = field(default_factory=dict)
    probes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    metrics: dict[str, Samples] = field(default_factory=dict)
    status: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    strangers: dict[str, int] = field(default_factory=dict)
    commands: int = -1
    actions: dict[str, httpx.Response] = field(default_factory=dict)
    callbacks: list[Callback] = field(default_factory=list)
    exit_code: int = -1
    user: str = ""
    output: str = ""

    def look(self, client: httpx.Client, moment: str) -> None:
        self.probes[moment] = tuple(client.get(path).status_code for path in PROBES)
        self.metrics[moment] = samples(client.get("/metrics").text)
        self.status[moment] = client.get("/status").json()

    def count(self, moment: str, name: str, **labels: str) -> float:
        return self.metrics[moment].get((name, frozenset(labels.items())), 0.0)


def samples(text: str) -> Samples:
    """What Prometheus would make of it."""
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def listen(address: str, heard: list[str]) -> None:
    """Read the stream until the server goes."""
    try:
        with httpx.stream("GET", f"{address}/events", timeout=120, verify=False, headers=SHOWN) as answer:
            heard.extend(line for line in answer.iter_lines() if line)
    except httpx.TransportError:
        return


def run(pod: Pod, seen: Seen) -> None:
    """The worker asks the queue only when it begins, so that what follows costs no command of its own."""
    seen.jobs["good"] = pod.stack.submit("image_fast", "a red bicycle at a garden gate")
    seen.jobs["bad"] = pod.stack.submit("image_fast", "a storm over a lighthouse")
    pod.wait_until((pod.run_dir / ADDRESS).exists)
    address = f"http://127.0.0.1:{(pod.run_dir / ADDRESS).read_text().rpartition(':')[2]}"
    with httpx.Client(base_url=address, timeout=60, verify=False, headers=SHOWN) as client:
        seen.look(client, "loading")
        seen.strangers = {path: get(f"{address}{path}").status_code for path in SCRAPED}
        listener = threading.Thread(target=listen, args=(address, seen.events))
        listener.start()
        (pod.folder / "load").touch()
        pod.wait_until(lambda: working(client)["job"] == seen.jobs["good"] and working(client)["step"])
        seen.look(client, "working")
        (pod.folder / "work").touch()
        pod.wait_until(lambda: ended(client) == set(seen.jobs.values()) and at_rest(client))
        seen.look(client, "done")
        seen.commands = commands_spent_on(client, pod.stack)
        act(client, seen)
        seen.jobs["heir's"] = pod.stack.submit("image_fast", "two green apples")
        os.kill(seen.status["done"]["workers"][0]["pid"], signal.SIGKILL)
        pod.wait_until(lambda: client.get("/ready").status_code == 503)
        seen.look(client, "killed")
        pod.wait_until(lambda: client.get("/ready").status_code == 200)
        pod.wait_until(lambda: seen.jobs["heir's"] in ended(client) and at_rest(client))
        seen.look(client, "back")
    seen.callbacks = pod.stack.double.callbacks()
    seen.user = pod.stack.job(seen.jobs["good"])["user_id"]
    seen.exit_code = pod.end()
    listener.join(60)
    seen.output = pod.text()


def working(client: httpx.Client) -> dict[str, Any]:
    return dict(client.get("/status").json()["workers"][0])


def heard(seen: Seen, job: str) -> list[Callback]:
    return [callback for callback in seen.callbacks if callback.job_id == seen.jobs[job]]


def ended(client: httpx.Client) -> set[str]:
    return {job["job"] for job in client.get("/status").json()["jobs"]}


def at_rest(client: httpx.Client) -> bool:
    """The worker has said, since its last job, that it holds none."""
    return working(client)["claims"] == 0


def commands_spent_on(client: httpx.Client, stack: LocalStack) -> int:
    """What the queue's service bills for a minute's worth of scrapes."""
    before = stack.commands
    for _ in range(5):
        for path in SCRAPED:
            with client.stream("GET", path) as answer:
                next(answer.iter_bytes(), b"")
    return stack.commands - before


def act(client: httpx.Client, seen: Seen) -> None:
    good, bad = seen.jobs["good"], seen.jobs["bad"]
    seen.actions["file"] = client.get(f"/files/{good}/0")
    seen.actions["part of it"] = client.get(f"/files/{good}/0", headers={"Range": "bytes=0-3"})
    seen.actions["no such file"] = client.get(f"/files/{good}/1")
    seen.actions["dead"] = client.get("/dead")
    seen.actions["replay"] = client.post(f"/jobs/{good}/replay", headers=OWN)
    seen.actions["replay of nothing"] = client.post("/jobs/unknown/replay", headers=OWN)
    seen.actions["cancel"] = client.post(f"/jobs/{bad}/cancel", headers=OWN)
    seen.actions["cancel of nonsense"] = client.post("/jobs/nonsense/cancel", headers=OWN)
    seen.actions["requeue"] = client.post(f"/dead/{bad}/requeue", headers=OWN)
    seen.actions["requeue again"] = client.post(f"/dead/{bad}/requeue", headers=OWN)
    seen.actions["pause"] = client.post("/queues/wan/pause", headers=OWN)
    seen.actions["resume"] = client.post("/queues/wan/resume", headers=OWN)
    seen.actions["submit"] = client.post("/jobs", headers=OWN, json={"type": "image_fast", "prompt": "a lighthouse"})
    seen.actions["nothing"] = client.get("/files/../../etc/passwd")
    seen.actions["wrong method"] = client.get("/session")


@pytest.fixture(scope="module")
def seen(_session_stack: LocalStack, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    _session_stack.reset()
    folder: Path = tmp_path_factory.mktemp("pod")
    given = {"evil_step_seconds": 0.4, "evil_poll_seconds": 600, "reconcile": "false", "ops_pictures": "true"}
    given |= {"evil_gates": folder, "evil_back_off": 4, "ops_address": "0.0.0.0:0", "ops_token": TOKEN}
    pod = Pod(folder, _session_stack, "orchestrator", nursery=nursery, **given)
    found = Seen(_session_stack)
    try:
        run(pod, found)
        yield found
    finally:
        pod.clean_up()


def test_probes_tell_loading_from_ready_and_dead_from_alive(seen):
    assert seen.probes == {
        "loading": (200, 503, 204),
        "working": (200, 200, 200),
        "done": (200, 200, 200),
        "killed": (200, 503, 204),
        "back": (200, 200, 200),
    }


def test_where_other_machines_reach_the_port_a_stranger_gets_the_page_and_the_probes_only(seen):
    told = {path for path, status in seen.strangers.items() if status != 401}
    assert told == {"/", *PROBES}


def test_without_a_token_such_a_port_is_not_opened_at_all(pod):
    refused = pod("orchestrator", ops_address="0.0.0.0:0")
    assert refused.process.wait(60) == 64
    assert "OPS_TOKEN" in refused.text()


def test_whoever_looks_sees_the_job_at_work_and_how_far_it_is(seen):
    worker = seen.status["working"]["workers"][0]
    assert (worker["kind"], worker["job"], worker["type"]) == ("wan", seen.jobs["good"], "image_fast")
    assert (worker["phase"], worker["steps"], worker["percent"]) == ("denoise", 4, 25 * worker["step"])
    assert seen.status["working"]["queues"][0]["waiting"] >= 1
    assert seen.status["working"]["queues"][0]["oldest"] > 0


def test_a_type_that_was_never_asked_for_counts_none(seen):
    for moment in ("working", "done"):
        assert (
            "ourvidz_jobs_total",
            frozenset({"kind": "wan", "type": "video_high", "status": "failed"}.items()),
        ) in seen.metrics[moment]


def test_jobs_count_by_type_and_how_they_ended(seen):
    for status in ("completed", "failed"):
        assert seen.count("done", "ourvidz_jobs_total", kind="wan", type="image_fast", status=status) == 1
    assert seen.count("done", "ourvidz_retries_total", kind="wan", what="job") == 3
    assert seen.count("done", "ourvidz_dead_total", kind="wan") == 1


def test_seconds_by_phase_fall_into_buckets(seen):
    labels = {"kind": "wan", "type": "image_fast", "phase": "denoise"}
    assert seen.count("done", "ourvidz_phase_seconds_count", **labels) == 1
    assert seen.count("done", "ourvidz_phase_seconds_bucket", **labels, le="1.0") == 0
    assert seen.count("done", "ourvidz_phase_seconds_bucket", **labels, le="600.0") == 1


def test_the_cards_use_and_the_commands_spent_are_counted(seen):
    assert seen.count("done", "ourvidz_gpu_busy_seconds_total", kind="wan") >= 1.6
    assert 0 < seen.count("done", "ourvidz_gpu_idle_share") < 1
    assert seen.count("done", "ourvidz_commands_total", kind="wan") > 5


def test_a_scrape_costs_no_command_of_the_queue(seen):
    assert seen.commands == 0


def test_a_killed_workers_counts_survive_and_its_heir_goes_on_from_them(seen):
    done = {"kind": "wan", "type": "image_fast", "status": "completed"}
    assert seen.count("killed", "ourvidz_jobs_total", **done) == 1
    assert seen.count("back", "ourvidz_jobs_total", **done) == 2
    assert seen.count("back", "ourvidz_worker_exits_total", kind="supervisor", slot="wan", code="-9") == 1
    assert seen.count("back", "ourvidz_worker_restarts_total", kind="wan") == 1
    for name in ("ourvidz_gpu_busy_seconds_total", "ourvidz_commands_total"):
        assert seen.count("back", name, kind="wan") > seen.count("done", name, kind="wan")


def test_the_truth_is_told_of_a_killed_worker(seen):
    worker = seen.status["killed"]["workers"][0]
    assert (worker["ready"], worker["pid"], worker["job"]) == (False, None, None)
    assert worker["state"] == "backing off"
    assert seen.status["killed"]["problems"] == ["The wan worker is backing off."]
    assert seen.count("killed", "ourvidz_worker_ready", kind="wan") == 0
    assert seen.count("killed", "ourvidz_worker_state", kind="wan", state="backing off") == 1


def test_a_job_that_ended_is_shown_with_its_phases_its_files_and_its_reason(seen):
    jobs = {job["job"]: job for job in seen.status["done"]["jobs"]}
    good, bad = jobs[seen.jobs["good"]], jobs[seen.jobs["bad"]]
    assert (good["status"], good["files"][0]["content_type"], good["attempt"]) == ("completed", "image/png", 1)
    assert {"wait", "denoise", "encode", "upload", "callback"} <= good["timings"].keys()
    assert {"idle_share", "memory", "worker"} <= good["facts"].keys()
    assert (bad["status"], bad["files"]) == ("failed", [])
    assert "given up" in bad["reason"]


def test_jobs_and_their_callbacks_say_what_they_cost(seen):
    report = next(c for c in heard(seen, "good") if c.status == "completed").body["metadata"]
    assert 0 <= report["idle_share"] <= 1
    assert report["memory"]["host"] > 0


def test_once_jobs_were_seen_the_next_ones_user_is_told_how_long_it_takes(seen):
    said = {c.job_id: c.body["metadata"] for c in seen.callbacks if c.status == "processing"}
    assert said[seen.jobs["good"]] == {}
    assert seen.status["done"]["estimates"]["image_fast"]["denoise"] >= 1.6
    assert said[seen.jobs["heir's"]]["estimated_seconds"] >= 1.6


def test_the_stream_tells_of_every_job_and_of_the_worker_that_died(seen):
    kinds = {line.removeprefix("event: ") for line in seen.events if line.startswith("event: ")}
    data = "\n".join(line for line in seen.events if line.startswith("data: "))
    assert {"live", "job"} <= kinds
    assert all(f'"job":"{job}"' in data for job in seen.jobs.values())
    assert "The wan worker is backing off." in data


def test_nothing_that_is_shown_holds_a_prompt_a_user_or_a_key(seen):
    shown = "\n".join([str(seen.status), str(seen.metrics), *seen.events, seen.actions["dead"].text])
    env = seen.stack.env
    for secret in (
        "bicycle",
        "storm",
        seen.user,
        env["SUPABASE_SERVICE_KEY"],
        env["UPSTASH_REDIS_REST_TOKEN"],
        TOKEN,
    ):
        assert secret not in shown


def test_a_delivered_file_is_shown_whole_and_in_parts(seen):
    whole, part = seen.actions["file"], seen.actions["part of it"]
    assert (whole.status_code, whole.headers["content-type"]) == (200, "image/png")
    assert whole.content.startswith(b"\x89PNG")
    assert (part.status_code, part.content) in ((206, b"\x89PNG"), (200, whole.content))
    assert [seen.actions[name].status_code for name in ("no such file", "nothing", "wrong method")] == [404, 404, 405]


def test_what_was_given_up_is_listed_and_put_back_once(seen):
    (entry,) = seen.actions["dead"].json()
    assert (entry["job_id"], entry["queue"]) == (seen.jobs["bad"], "wan_queue")
    assert seen.actions["requeue"].json() == {"id": entry["id"], "job_id": seen.jobs["bad"], "queue": "wan_queue"}
    assert seen.actions["requeue again"].status_code == 404
    assert "not on a dead list" in seen.actions["requeue again"].json()["error"]


def test_a_callback_can_be_sent_again(seen):
    assert seen.actions["replay"].json() == {"job_id": seen.jobs["good"], "status": "completed", "assets": 1}
    assert seen.actions["replay of nothing"].status_code == 404
    assert [c.status for c in heard(seen, "good")].count("completed") == 2


def test_a_job_can_be_withdrawn_and_a_queue_paused(seen):
    assert seen.actions["cancel"].json() == {"job_id": seen.jobs["bad"], "cancelled": True}
    assert seen.actions["cancel of nonsense"].status_code == 400
    paused, resumed = seen.actions["pause"].json(), seen.actions["resume"].json()
    assert (paused, resumed) == ({"queue": "wan_queue", "paused": True}, {"queue": "wan_queue", "paused": False})
    assert seen.count("back", "ourvidz_events_total", kind="wan", event="cancelled") == 1


def test_jobs_are_queued_from_the_page_only_where_that_is_switched_on(seen):
    assert seen.actions["submit"].status_code == 404


def test_all_that_ends_in_good_order(seen):
    assert seen.exit_code == 0
    assert "Traceback" not in seen.output
    assert '"event": "ops request failed"' not in seen.output


def test_where_the_port_is_taken_one_sentence_says_so_and_the_worker_works(pod, stack):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        job = stack.submit("image_fast", "a red bicycle")
        started = pod("orchestrator", ops_address=f"127.0.0.1:{taken.getsockname()[1]}")
        assert stack.wait_for(job)["status"] == "completed"
    (said,) = started.events("page not served")
    assert said["reason"] == "Address already in use"
    assert "workers run on" in said["hint"]
    assert started.end() == 0
