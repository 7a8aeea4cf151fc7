"""Whatever comes in: every message ends as a job or with a sentence, every object lies in its user's folder, every
callback is JSON of bounded size."""

from __future__ import annotations

import functools
import json
import math
import re
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.guarding import guarded
from tests.hostile_messages import JOB, TYPES, VALUES, messages
from tests.receiver import Receiver, running_receiver
from tests.support import wait_until
from tests.workbench import PRESETS, Bench
from workers import payload
from workers.claim import Claim
from workers.errors import Rejected
from workers.job import Artifact, Delivery, Outcome, SamplingParams
from workers.making.maker import Maker, waited
from workers.prompting.prompt import compose
from workers.prompting.rules import load_rules
from workers.resolve import FRAMES, GUIDANCE, SEEDS, SHIFT, STEPS
from workers.supabase import storage as storage_module
from workers.supabase.callback import build
from workers.supabase.storage import SupabaseStorage
from workers.testing.fakes import FakeEngine
from workers.watch import Watch

USER = "11111111-2222-4333-8444-555555555555"
MOST_SENTENCE = 120
MOST_BODY = 128 * 1024
slow = settings(suppress_health_check=list(HealthCheck))


@functools.cache
def maker(kind: str) -> Maker:
    engine, rules = FakeEngine(steps=1), load_rules()
    asked = functools.partial(compose, rules=rules, count=engine.count_tokens)
    gate = guarded(Path(tempfile.mkdtemp())).gate
    return Maker(kind, "test", PRESETS, engine, None, gate, asked, scale=1 / 16)


def outcome_of(raw: str) -> Outcome:
    """What the main thread does with a message, short of holding a claim."""
    job = payload.parse(raw)
    made_by = maker(PRESETS[job.type].kind if job.type in PRESETS else "wan")
    preset = made_by.preset(job)
    _, params = made_by.admit(job, preset)
    check(params)
    assert 0 <= waited(job) < math.inf
    parcel = made_by.make(Claim("a" * 32, raw, 1, 0, 1), job, preset, Watch())
    return Outcome(job.id, job.type, "completed", enhanced_prompt=parcel.enhanced_prompt, metadata=parcel.metadata)


def check(params: SamplingParams) -> None:
    """No wish of a payload leads outside what engines can do."""
    preset = PRESETS[params.type]
    assert STEPS[0] <= params.steps <= STEPS[1]
    assert GUIDANCE[0] <= params.guidance <= GUIDANCE[1]
    assert params.shift is None or SHIFT[0] <= params.shift <= SHIFT[1]
    assert FRAMES[0] <= params.frames <= FRAMES[1]
    assert params.frames % 4 == 1
    assert params.width % 16 == params.height % 16 == 0
    assert 0 < params.width * params.height <= 1024 * 1024
    assert all(type(seed) is int and 0 <= seed < SEEDS for seed in params.seeds)
    assert len(params.seeds) in preset.outputs


def check_refusal(refusal: Rejected) -> None:
    assert refusal.code in ("invalid", "unreadable", "policy")
    assert 10 < len(refusal.sentence) <= MOST_SENTENCE
    assert refusal.sentence.isprintable()


def delivered(outcome: Outcome, count: int) -> Outcome:
    paths = [f"{USER}/{outcome.job_id}/{i}.png" for i in range(count)]
    deliveries = tuple(Delivery(i, outcome.type, path, "image/png", (8, 8), 1, i, 9) for i, path in enumerate(paths))
    return Outcome(outcome.job_id, outcome.type, "completed", deliveries, metadata=outcome.metadata)


@settings(slow, max_examples=1500)
@given(messages(), st.sampled_from(["paths", "objects"]))
def test_every_message_becomes_a_job_or_a_sentence(raw, dialect):
    try:
        outcome = outcome_of(raw)
    except Rejected as refusal:
        check_refusal(refusal)
    else:
        assert payload.find_id(raw) == outcome.job_id
        check_callback(outcome, dialect)


def check_callback(outcome: Outcome, dialect: Literal["paths", "objects"]) -> None:
    body = json.dumps(build(delivered(outcome, 6), dialect, USER), ensure_ascii=False, allow_nan=False).encode()
    assert len(body) <= MOST_BODY


@settings(slow, max_examples=300)
@given(VALUES.map(lambda value: json.dumps(value)) | st.text() | messages())
def test_looking_for_an_id_or_a_user_never_fails(raw):
    for found in (payload.find_id(raw), payload.find_user(raw)):
        assert found is None or payload.UUID.fullmatch(found)


@pytest.mark.parametrize("filler", ["😀", '"', "\\", "é", "ﷺ", "\u2028"])
def test_the_longest_texts_still_make_a_callback_of_bounded_size(filler):
    longest = {"prompt": filler * 4000, "negative_prompt": filler * 2000, "compel_weights": filler * 2000}
    if filler == "ﷺ":  # one character becomes eighteen
        longest = {name: text[: len(text) // 18] for name, text in longest.items()}
    raw = json.dumps({"id": JOB, "type": "image_fast", "user_id": USER, "compel_enabled": True, **longest})
    outcome = outcome_of(raw)
    assert len(outcome.metadata["original_prompt"]) > 3_900
    check_callback(outcome, "paths")


@settings(slow, max_examples=8)
@given(bodies=st.lists(messages(), min_size=40, max_size=40))
def test_every_message_on_a_real_workers_queue_ends_completed_failed_or_on_the_dead_list(bodies, tmp_path_factory):
    at = Bench(tmp_path_factory.mktemp("bench"), engine=FakeEngine(steps=1))
    bodies = [body.replace(JOB, str(uuid.UUID(int=number))) for number, body in enumerate(bodies)]
    for body in bodies:
        at.queue.push(body)
    at.start()
    try:
        wait_until(lambda: not at.queue.waiting() and not at.leases.tokens and at.dispatch.idle)
        assert at._thread.is_alive()
        told = Counter(outcome.job_id for outcome in at.callbacks.outcomes)
        dead = [entry.body for entry in at.queue.dead()]
        for body in bodies:
            job_id = payload.find_id(body)
            assert told[job_id] == 1 if job_id else body in dead
        assert {outcome.status for outcome in at.callbacks.outcomes} <= {"completed", "failed"}
        assert not at.queue._parked
    finally:
        assert at.finish() == 0


# Storage


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with running_receiver() as server:
        yield server


@pytest.fixture(scope="module")
def storage(server) -> Iterator[SupabaseStorage]:
    storage = SupabaseStorage(server.url, "service-key")
    yield storage
    storage.close()


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "0.png"
    path.write_bytes(b"pixels")
    return path


PIECES = ["..", ".", "/", "//", "\\", "%2e", "%2E%2e", "%2f", "%5c", "%252e", "?", "#", ";", "@", ":", "~", " ", "\0"]
PIECES += ["\r\n", "\n", "\u2025", "\uff0e", "\uff0f", "é", "a", "A1", "-", "_", USER, JOB, "null", "*", "\ud800", "١"]
NAMES = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
PLACE = re.compile(r"/storage/v1/object/[\w-]+/[\w-]+/[\w-]+/\d+\.\w+", re.ASCII)


def path_of_upload(storage: SupabaseStorage, server: Receiver, picture: Path, *names: str) -> str | None:
    """Where the object really went, as the server saw it; None where nothing was sent."""
    server.requests.clear()
    artifact = Artifact(0, picture, "image/png", (8, 8), 1, 7)
    try:
        storage.put(artifact, *names)
    except (Rejected, httpx.InvalidURL):
        assert not server.requests
        return None
    return server.requests[0].path


@settings(slow, max_examples=400)
@given(st.sampled_from(TYPES) | NAMES, st.just(USER) | NAMES, st.just(JOB) | NAMES)
def test_an_object_goes_to_its_own_place_or_nowhere(storage, server, picture, job_type, user, job):
    path = path_of_upload(storage, server, picture, job_type, user, job)
    assert path is None or path == f"/storage/v1/object/{job_type}/{user}/{job}/0.png"
    assert path is None or PLACE.fullmatch(path)


@settings(slow, max_examples=150)
@given(NAMES)
def test_the_prepared_address_alone_keeps_an_object_from_leaving_its_users_folder(storage, server, picture, job):
    assume("\ud800" not in job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage_module, "_PLACE", re.compile(".*", re.DOTALL))
        path = path_of_upload(storage, server, picture, "image_fast", USER, job)
    assert path is None or path.startswith(f"/storage/v1/object/image_fast/{USER}/")
    assert path is None or "/../" not in path


def test_an_honest_object_arrives(storage, server, picture):
    assert path_of_upload(storage, server, picture, "image_fast", USER, JOB) is not None
