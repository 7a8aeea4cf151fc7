"""A consent's whole way: given by a user, verified by an admin, signed by queue-job, believed by the workers' gate."""

from __future__ import annotations

import io
import json
import uuid
from contextlib import closing
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fnrig import Browser, browsing, credits_of, message
from guarding import ADULT, guarded
from PIL import Image

from workers import payload
from workers.local.edge.stack import EdgeStack
from workers.references.loading import References
from workers.safety.block import Blocked
from workers.safety.guards import Guards

ADULTS = "update public.system_config set value = '\"{}\"' where key = 'max_rating'"


def drawn() -> bytes:
    """A picture that nobody has."""
    pixels = np.random.default_rng(uuid.uuid4().int).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Person:
    """A user who may ask for adult work, and pictures of theirs."""

    def __init__(self, browser: Browser) -> None:
        self.browser, self.edge, self.user = browser, browser.edge, browser.user
        self.edge.rpc("set_profile", p_user=self.user, p_changes={"max_rating": "adult"})

    def upload(self, path: str | None = None) -> str:
        found = path or f"{self.user}/{uuid.uuid4()}.png"
        place = f"/storage/v1/object/reference_images/{found}"
        self.browser.http.post(place, content=drawn(), headers={"Content-Type": "image/png"}).raise_for_status()
        return found

    def delete(self, path: str) -> None:
        place = "/storage/v1/object/reference_images"
        self.browser.http.request("DELETE", place, json={"prefixes": [path]}).raise_for_status()

    def consents(self, path: str) -> str:
        """To the use of this picture; an admin has verified it."""
        row = {"user_id": self.user, "reference_path": path, "statement": "That is me."}
        wanted = {"Prefer": "return=representation"}
        given = self.browser.http.post("/rest/v1/consents", json=row, headers=wanted).raise_for_status().json()
        consent = (given[0] if isinstance(given, list) else given)["id"]
        self.edge.rpc("verify_consent", p_consent=consent)
        return str(consent)

    def asks(self, reference: str | None = None, *, frames: Any = None, **fields: Any) -> dict[str, Any]:
        """The message of an adult job that begins from a picture, or from some."""
        config = frames or {"reference_image_url": reference}
        row = self.browser.queued(rating="adult", config=config, **fields)
        return message(self.edge, row["id"])


@pytest.fixture
def person(edge: EdgeStack) -> Any:
    edge.sql(ADULTS.format("adult"))
    edge.faults.clear(seed=0)
    with browsing(edge) as browser:
        yield Person(browser)
    edge.sql(ADULTS.format("sfw"))


@pytest.fixture
def guards(tmp_path) -> Guards:
    return guarded(tmp_path, age=40.0, policy=ADULT)


def rule_of(guards: Guards, person: Person, sent: dict[str, Any]) -> str | None:
    """What the workers make of a message: the rule that blocks it, if any."""
    job = payload.parse(json.dumps(sent))
    own, key = person.edge.env["SUPABASE_URL"], person.edge.env["SUPABASE_SERVICE_KEY"]
    with closing(References(own, key, frozenset())) as references:
        pictures = references.collect(job.references, job.user_id, None)
    try:
        guards.gate.admit_references(job, "adult", pictures)
    except Blocked as blocked:
        return blocked.rule
    return None


def test_a_verified_consent_lets_the_workers_begin_from_its_picture(person, guards):
    path = person.upload()
    consent = person.consents(path)
    sent = person.asks(path)
    assert (sent["consent_id"], sent["rating"]) == (consent, "adult")
    assert rule_of(guards, person, sent) is None
    assert person.edge.job(sent["id"])["payload"] == sent


def test_a_job_with_two_pictures_needs_a_consent_for_each(person, guards):
    first, last = person.upload(), person.upload()
    frames = {"first_frame": first, "last_frame": last}
    given = person.consents(first)
    assert rule_of(guards, person, person.asks(frames=frames)) == "no_consent"
    given = sorted([given, person.consents(last)])
    sent = person.asks(frames=frames)
    assert sent["consent_id"] == ",".join(given)
    assert rule_of(guards, person, sent) is None
    person.delete(last)
    person.upload(last)
    assert rule_of(guards, person, sent) == "no_consent"


def test_a_picture_is_covered_by_whatever_name_its_address_is_written(person, guards):
    path = person.upload(f"{person.user}/my picture (1).png")
    consent = person.consents(path)
    sent = person.asks(
        f"{person.edge.env['SUPABASE_URL']}/storage/v1/object/sign/reference_images/{quote(path)}?token=t"
    )
    assert sent["consent_id"] == consent
    assert rule_of(guards, person, sent) is None


def test_a_picture_nobody_consented_to_is_blocked(person, guards):
    consented, other = person.upload(), person.upload()
    person.consents(consented)
    assert rule_of(guards, person, person.asks(other)) == "no_consent"


def test_a_client_signs_nothing_itself(person, guards):
    planted = {"consent_id": str(uuid.uuid4()), "consent": {"expires_at": 4_000_000_000, "signature": "00"}}
    sent = person.asks(person.upload(), **planted, metadata=planted)
    assert not planted.keys() & sent.keys()
    assert rule_of(guards, person, sent) == "no_consent"


def test_a_picture_that_takes_the_place_of_a_waiting_jobs_is_blocked(person, guards):
    path = person.upload()
    person.consents(path)
    sent = person.asks(path)
    person.delete(path)
    person.upload(path)
    assert rule_of(guards, person, sent) == "no_consent"
    assert "consent_id" not in person.asks(path)


def test_a_signature_ends_within_a_day_and_with_its_consent(person):
    path = person.upload()
    consent = person.consents(path)
    now = int(person.edge.sql("select extract(epoch from now())::bigint"))
    assert now < person.asks(path)["consent"]["expires_at"] <= now + 90_000
    person.edge.sql(f"update public.consents set expires_at = now() + interval '1 minute' where id = '{consent}'")
    assert person.asks(path)["consent"]["expires_at"] <= now + 120


def test_work_that_is_not_adult_needs_no_signature(person):
    path = person.upload()
    consent = person.consents(path)
    row = person.browser.queued(config={"reference_image_url": path})
    sent = message(person.edge, row["id"])
    assert (sent["consent_id"], "consent" in sent) == (consent, False)


def test_a_consent_that_cannot_be_confirmed_costs_nothing(person):
    path = person.upload()
    person.consents(path)
    before = credits_of(person.edge, person.user)
    person.edge.faults.add("error", path="/storage/v1/object/reference_images/*", status=500, count=1)
    answer = person.browser.ask(rating="adult", config={"reference_image_url": path})
    (row,) = person.edge.rows("jobs", user_id=person.user)
    assert (answer.status_code, row["status"], credits_of(person.edge, person.user)) == (503, "failed", before)
    assert message(person.edge, row["id"]) is None
