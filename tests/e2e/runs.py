"""Two runs of the whole system, recorded once and looked at by many tests.

`july`: the orchestrator beside the July deployment, with all ten types, every producer's form and every hostile
message; asked to stop while it works. `newest`: a second life of the same volume beside the newest deployment, in
which a worker is killed.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import referring
from messages import FORMS, PRESETS, USER, announce, hostile, job, push_form, push_known
from pod import ask
from support import wait_until
from system import ROOT, System

from workers.local.stack import TERMINAL, LocalStack
from workers.local.supabase.job_callback import Callback

SEED = 1234
PLANTED = "marigold"
PROMPT = f"a {PLANTED} in a blue pot on a windowsill, morning light " + "and a cat asleep beside it, " * 20 + "in oil"
FIVE = ("SUPABASE_URL", "SUPABASE_SERVICE_KEY", "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN")
SEEDED = {
    "image": ("image_fast", {}),
    "images": ("sdxl_image_fast", {"num_images": 3}),
    "clip": ("video_fast", {"frame_num": 5}),
}


@dataclass(frozen=True)
class Run:
    """`jobs`: what a job was for -> its id, in the order of queueing."""

    stack: LocalStack
    system: System
    jobs: dict[str, str]
    exit_code: int
    traces: str

    def row(self, label: str) -> dict[str, Any]:
        return self.stack.job(self.jobs[label])

    def callbacks(self, label: str, status: str | None = None) -> list[Callback]:
        heard = self.stack.double.callbacks(self.jobs[label])
        return [seen for seen in heard if status in (None, seen.status)]

    def body(self, label: str) -> dict[str, Any]:
        """The first terminal callback of a job."""
        return next(seen.body for seen in self.callbacks(label) if seen.status in TERMINAL)

    def files(self, label: str) -> dict[str, bytes]:
        """What storage holds of a job, by path, with the bucket in front."""
        found = [entry for entry in self.stack.objects() if f"/{self.jobs[label]}/" in entry["path"]]
        return {f"{e['bucket']}/{e['path']}": self.stack.double.read(e["bucket"], e["path"]) for e in found}


def july(stack: LocalStack, models: Path, folder: Path) -> Run:
    env = {name: stack.env[name] for name in FIVE} | {"MODEL_ROOT": str(models), "DRAIN_SECONDS": "240"}
    with System(folder, str(ROOT / "dual_orchestrator.py"), env=env) as system:
        jobs = {f"type {name}": stack.submit(name, PROMPT, user_id=USER) for name in PRESETS}
        jobs |= {f"form {name}": push_form(stack, name) for name in FORMS}
        jobs |= seeded(stack, "lpush")
        jobs |= in_order(stack, "lpush")
        jobs |= referring.push(stack)
        jobs |= {f"hostile {name}": push_known(stack, *entry(name, text)) for name, text in hostile().items()}
        jobs["after all that"] = stack.submit("image_fast", PROMPT)
        settle(lambda: all(ended(stack, id_) for id_ in jobs.values() if id_))
        jobs["the last"] = stack.submit("video_fast", PROMPT)
        announce(stack, "wan_queue", jobs["the last"])
        wait_until(lambda: system.events("claimed", job=jobs["the last"]), 240)
        traces = system.traces()
        system.ask_to_stop()
        return Run(stack, system, jobs, system.ends(), traces + system.traces())


def newest(stack: LocalStack, models: Path, folder: Path) -> Run:
    env = {**stack.env, "MODEL_ROOT": str(models), "MAX_RATING": "adult", "DRAIN_SECONDS": "240"}
    with System(folder, str(ROOT / "dual_orchestrator.py"), env=env) as system:
        jobs = {"a clip": stack.submit("video_fast", PROMPT, frame_num=17)}
        jobs |= seeded(stack, "rpush")
        jobs |= in_order(stack, "rpush")
        jobs["rated adult"] = push_known(stack, hostile()["rated_adult"], "wan_queue", "rpush")
        settle(lambda: ended(stack, jobs["seeded images"]) and not ask(stack, "HLEN", "sdxl_queue:inflight"))
        jobs["the victim"] = stack.submit("sdxl_image_high", PROMPT, num_images=3, num_inference_steps=60)
        worker = system.wait_for_work("sdxl", jobs["the victim"], step=5).pid
        jobs["beside it"] = stack.submit("sdxl_image_fast", PROMPT, num_images=1)
        os.kill(worker, signal.SIGKILL)
        settle(lambda: all(ended(stack, id_) for id_ in jobs.values()))
        traces = system.traces()
        system.ask_to_stop()
        return Run(stack, system, jobs, system.ends(), traces + system.traces())


def seeded(stack: LocalStack, command: str) -> dict[str, str]:
    """Jobs that must look the same in every life. Their ids too are the same, since pixels carry a mark of the job."""
    found = {}
    for label, (job_type, config) in SEEDED.items():
        message = job(job_type, str(uuid.uuid5(uuid.NAMESPACE_OID, label)), seed=SEED, **config)
        found[f"seeded {label}"] = push_known(stack, message, f"{PRESETS[job_type].kind}_queue", command)
    return found


def in_order(stack: LocalStack, command: str) -> dict[str, str]:
    """Jobs alike in everything but their place in the queue."""
    return {f"in order {i}": push_known(stack, job("image_fast"), "wan_queue", command) for i in range(3)}


def entry(name: str, text: bytes) -> tuple[bytes, str]:
    """A hostile message and its queue: that of its type, if it says one, but for the one that is sent astray."""
    return text, "sdxl_queue" if b'"sdxl_' in text and name != "wrong_kind" else "wan_queue"


def ended(stack: LocalStack, job_id: str) -> bool:
    """Whether nothing more is to be heard of a job, repetitions included."""
    heard = [seen for seen in stack.double.callbacks(job_id) if seen.status in TERMINAL and seen.answer == 200]
    repeats = stack.env["CALLBACK_DIALECT"] == "paths" and any(len(seen.body.get("assets", ())) > 1 for seen in heard)
    return len(heard) > repeats


def settle(holds: Callable[[], bool], limit: float = 600.0) -> None:
    """Wait, but let the tests say what is missing."""
    deadline = time.monotonic() + limit
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
