"""What a forked worker does: a true worker process around an engine without a model, told when to die or freeze."""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import httpx
import numpy as np
from numpy.typing import NDArray

from workers import boot, claiming, crash, endings, kinds, payload
from workers.claim import Claim
from workers.delivery import courier, verdict
from workers.job import Output, SamplingParams
from workers.lease import Leases
from workers.queue import rest
from workers.supabase import web
from workers.supervision import orchestrate
from workers.testing.fakes import FakeEngine, FakeEnhancer, no_objections
from workers.watch import Watch

ssl.create_default_context = functools.cache(ssl.create_default_context)  # reading the store costs 20 ms a client
httpx.Client().close()
HANG = 3600.0
SUPERVISED = """
from bench.chaos import child
from workers.supervision import heartbeat

order = {order!r}
if heartbeat.generation() > 1:
    order |= {{"evil": [], "step_limit": 20.0}}
child.live(order)
"""


class Painter(FakeEngine):
    """Paints for each process in another colour, so that it shows whose bytes lie in storage."""

    def generate(self, params: SamplingParams, watch: Watch) -> list[Output]:
        outputs = super().generate(params, watch)
        return [replace(output, frames=_tinted(output.frames, os.getpid() % 251)) for output in outputs]


def _tinted(frames: NDArray[np.uint8], red: int) -> NDArray[np.uint8]:
    return np.stack((np.full_like(frames[..., 0], red), frames[..., 1], frames[..., 2]), axis=-1)


def call_it_a_day(_watch: Watch) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def break_off(_watch: Watch) -> None:
    raise ZeroDivisionError


def hang(_watch: Watch) -> None:
    time.sleep(HANG)


EVIL: Mapping[str, Callable[[Watch], None]] = {
    "the end of the day": call_it_a_day,
    "a broken vase": break_off,
    "a frozen lake": hang,
}
"""Words of a prompt, and what the engine then does."""


def main(order: Mapping[str, Any]) -> NoReturn:
    """`order`: kind, name, log, environment, and what else is read here and by `live`."""
    os.environ.clear()
    os.environ.update(order["environment"])
    if order.get("supervised"):
        os._exit(_supervise(order))
    live(order)


def live(order: Mapping[str, Any]) -> NoReturn:
    """The worker itself, in the environment as it is."""
    _prepare(order)
    boot.run_worker(order["kind"])


def _supervise(order: Mapping[str, Any]) -> int:
    """The true supervisor with workers that are told the same. Only the first of them is evil."""
    orchestrate.ROOT = Path(order["log"]).parent
    boot.models_of = lambda *_: []
    (orchestrate.ROOT / f"{order['kind']}_worker.py").write_text(SUPERVISED.format(order=dict(order)))
    return orchestrate.run_supervisor(order["kind"])


def _prepare(order: Mapping[str, Any]) -> None:
    web.USER_AGENT = order["name"]
    boot.models_of = lambda *_: []
    boot.make_sign = lambda _: lambda _file: None  # each signature differs, and effects are compared by their bytes
    claiming.Claimer.next = _noting(claiming.Claimer.next, order["name"])
    engine = Painter if order.get("painted") else FakeEngine
    evil = {words: EVIL[words] for words in order.get("evil", ())}
    kinds.KINDS[order["kind"]] = replace(
        kinds.KINDS[order["kind"]],
        poll=0.1,
        step_limit=order.get("step_limit", 20.0),
        engine=lambda _: engine(order.get("step_seconds", 0.0), order.get("steps", 3), evil),
        enhancer=lambda _: FakeEnhancer(),
        scorers=no_objections,
    )
    _hurry(order.get("hurry", 20.0))
    importlib.reload(crash)
    if order.get("freezes"):
        crash.point = crash.armed(os.environ[crash.VARIABLE], lambda: os.kill(os.getpid(), signal.SIGSTOP))
    if order.get("planted"):
        Leases.confirm = lambda *_, **__: None


def _hurry(factor: float) -> None:
    """Every wait of minutes that is not under test becomes one of seconds."""
    claiming.BACK_OFF = tuple(seconds / factor for seconds in claiming.BACK_OFF)
    courier.BACK_OFF = tuple(seconds / factor for seconds in courier.BACK_OFF)
    courier.REPEAT_COMPLETED_AFTER /= factor
    courier.RETRY_AFTER /= factor
    courier.PARK_ABOVE /= factor
    verdict.SCHEDULE = tuple(seconds / factor for seconds in verdict.SCHEDULE)
    endings.RETRY_DELAYS = tuple(seconds / factor for seconds in endings.RETRY_DELAYS)
    rest.PLAN_PAUSE /= factor


def _noting(ask: Callable[..., Claim | None], name: str) -> Callable[..., Claim | None]:
    """Write every claim into the log as soon as it is known."""

    def next_claim(*arguments: Any, **options: Any) -> Claim | None:
        claim = ask(*arguments, **options)
        if claim is not None:
            noted = {"event": "holds", "job": payload.find_id(claim.body), "fence": claim.fence, "sender": name}
            os.write(1, json.dumps({**noted, "at": time.time()}).encode() + b"\n")
        return claim

    return next_claim
