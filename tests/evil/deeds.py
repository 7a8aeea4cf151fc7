"""True processes of a pod around engines without a model that do what their prompts say."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from judges import judges

from workers import boot, claiming, endings, kinds
from workers.delivery import courier, verdict
from workers.delivery.parcel import Encode, Parcel
from workers.errors import EngineBroken
from workers.job import Artifact, Output
from workers.supervision import orchestrate
from workers.testing.fakes import FakeEngine, FakeEnhancer
from workers.watch import Watch
from workers.worker import LOOK_AHEAD

STEP_SECONDS = float(os.environ.get("EVIL_STEP_SECONDS", "0"))
POLL_SECONDS = float(os.environ.get("EVIL_POLL_SECONDS", "0.1"))
STEPS = int(os.environ.get("EVIL_STEPS", "4"))
GATES = os.environ.get("EVIL_GATES")
"""A folder. Loading waits there for a file `load`, and a job at the garden gate for a file `work`."""
MADE = os.environ.get("EVIL_MADE")
"""A file that gets a line for each job that reached an engine."""

_hoard: list[bytearray] = []


def hoard(_watch: Watch) -> None:
    _hoard.append(bytearray(os.urandom(1)) * 64_000_000)


def hang(_watch: Watch) -> None:
    time.sleep(3600)


def wait_at_the_gate(watch: Watch) -> None:
    """In the first step, which is too long for the next job to be claimed before this one goes on."""
    time.sleep(LOOK_AHEAD / 2)
    watch.step(1, STEPS)
    wait_for_gate("work")


def wait_for_gate(name: str) -> None:
    while GATES and not Path(GATES, name).exists():
        time.sleep(0.02)


def break_down(_watch: Watch) -> None:
    raise EngineBroken("illegal memory access", exit_code=70)


def fail(_watch: Watch) -> None:
    raise ValueError(planted())


def planted() -> str:
    """What no output may hold."""
    return os.environ["EVIL_PLANTED"]


def talk(_watch: Watch) -> None:
    """Every way in which libraries and accidents print."""
    text = planted()
    for name in ("httpx", "httpcore", "diffusers.pipelines.x", "transformers", "upstash_redis", "some.library", ""):
        library = logging.getLogger(name)
        for say in (library.debug, library.info, library.warning, library.error):
            say("cut off: %s", text)
            say(f"cut off: {text}")
    own = logging.getLogger("diffusers")
    own.addHandler(logging.StreamHandler())
    own.warning(f"cut off: {text}")
    try:
        raise ValueError(text)
    except ValueError:
        own.exception(text)
        logging.getLogger("asyncio").exception(text)
    warnings.warn(text, UserWarning, stacklevel=1)
    thread = threading.Thread(target=fail, args=(None,), name=text)
    thread.start()
    thread.join()
    _Unfinished(text)


class _Unfinished:
    def __init__(self, text: str) -> None:
        self.text = text

    def __del__(self) -> None:
        raise ValueError(self.text)


DEEDS: dict[str, Callable[[Watch], None]] = {
    "squirrel": hoard,
    "frozen lake": hang,
    "garden gate": wait_at_the_gate,
    "broken vase": break_down,
    "storm": fail,
    "parrot": talk,
}
"""Words of a prompt, and what the engine then does."""


FLOODS = {"an early flood": ("0.png", "0.mp4"), "a late flood": ("record.json",)}
"""Words of a prompt, and the files for which the disk then has no room."""


def on_a_disk_that_fills(encode: Encode) -> Encode:
    def encode_on_it(output: Output, folder: Path, parcel: Parcel) -> Artifact:
        for words, names in FLOODS.items():
            for name in names if words in parcel.params.prompt else ():
                (folder / name).symlink_to("/dev/full")
        return encode(output, folder, parcel)

    return encode_on_it


class _Engine(FakeEngine):
    def __init__(self) -> None:
        super().__init__(STEP_SECONDS, STEPS, DEEDS)

    def load(self, watch):
        wait_for_gate("load")
        super().load(watch)

    def generate(self, params, watch):
        if MADE:
            with Path(MADE).open("a") as made:
                made.write(f"{os.getpid()}\n")
        return super().generate(params, watch)


def prepare() -> None:
    """The kinds of worker without weights, and waits of seconds where they would be minutes."""
    orchestrate.ROOT = Path(__file__).parent
    boot.models_of = lambda *_: []
    claiming.BACK_OFF = (0.2, 0.5)
    claiming.BOOT_PAUSES = (0.1, 0.1)
    courier.BACK_OFF = (0.1, 0.2)
    courier.RETRY_AFTER = 0.2
    endings.RETRY_DELAYS = (0.1, 0.1, 0.1)
    verdict.SCHEDULE = (0.1, 0.1)
    make_encode = boot.make_encode
    boot.make_encode = lambda *arguments: on_a_disk_that_fills(make_encode(*arguments))
    for name, kind in list(kinds.KINDS.items()):
        kinds.KINDS[name] = replace(
            kind,
            poll=POLL_SECONDS,
            step_limit=60.0,
            engine=lambda _: _Engine(),
            enhancer=lambda _: FakeEnhancer(),
            scorers=judges,
        )
