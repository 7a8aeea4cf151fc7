"""Gate G2: whose picture a job may begin from. Pictures are drawn; ages are what a test says."""

from __future__ import annotations

import json
import math
import uuid

import pytest

from tests.guarding import ADULT, SECRET, audited, guarded
from tests.test_gate_output import picture
from workers import payload
from workers.job import Job, Picture
from workers.safety.block import Blocked
from workers.safety.reference import sign_consent
from workers.safety.registry import Entry
from workers.safety.scorers import fingerprint

USER, OTHER = "11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555"
CONSENT, FAR = "77777777-2222-4333-8444-555555555555", 4_000_000_000
OWN, FOREIGN, SECOND = "a" * 64, "b" * 64, "c" * 64


def reference(sha256: str = FOREIGN, seed: int = 1, frames: int = 1) -> Picture:
    pixels = picture(seed, frames)
    return Picture((pixels.shape[2], pixels.shape[1]), pixels.tobytes(), frames, sha256)


def job(consent_id: str | None = None, user: str = USER, **consent) -> Job:
    return Job(str(uuid.uuid4()), "image_fast", user, "a red bicycle", consent_id=consent_id, consent=consent)


def consented(*files: str, user: str = USER, expires_at: int = FAR, secret: str = SECRET, **changed) -> Job:
    signature = sign_consent(secret, CONSENT, USER, expires_at, files)
    return job(CONSENT, user, **({"expires_at": expires_at, "signature": signature} | changed))


@pytest.fixture
def guards(tmp_path):
    found = guarded(tmp_path, age=40.0, policy=ADULT)
    own = Entry("a job of theirs", 0, OWN, found.gate.audit.mac(USER), "image_fast", 1.0, USER)
    found.inspection.registry.add([own])
    return found


def rule_of(guards, asking: Job, rating: str = "adult", *pictures: Picture) -> str | None:
    shown = {f"reference {number}": each for number, each in enumerate(pictures or (reference(),))}
    try:
        guards.gate.admit_references(asking, rating, shown)
    except Blocked as blocked:
        return blocked.rule
    return None


def test_work_that_is_not_adult_may_begin_from_any_picture(guards):
    assert rule_of(guards, job(), "sfw") is None


def test_adult_work_needs_our_own_output_or_a_consent(guards):
    assert rule_of(guards, job()) == "no_consent"
    assert rule_of(guards, job(), "adult", reference(OWN)) is None
    assert rule_of(guards, consented(FOREIGN)) is None


def test_our_own_output_is_that_of_the_same_user(guards):
    assert rule_of(guards, job(user=OTHER), "adult", reference(OWN)) == "no_consent"


def test_one_foreign_picture_among_our_own_is_foreign(guards):
    pictures = (reference(OWN), reference(FOREIGN))
    assert rule_of(guards, job(), "adult", *pictures) == "no_consent"
    assert rule_of(guards, consented(OWN, FOREIGN), "adult", *pictures) is None


def test_a_remembered_character_is_nobodys_consent(guards):
    with pytest.raises(Blocked):
        guards.gate.admit_references(job(), "adult", {})


EARLY = sign_consent(SECRET, CONSENT, USER, 1_000_000_000, [FOREIGN])
INVALID = {
    "no consent": job(),
    "an id alone": job(CONSENT),
    "no signature": job(CONSENT, expires_at=FAR),
    "another user's": consented(FOREIGN, user=OTHER),
    "another picture's": consented(SECOND),
    "one of two pictures more": consented(FOREIGN, SECOND),
    "run out": consented(FOREIGN, expires_at=1_000_000_000),
    "a later end than was signed": job(CONSENT, expires_at=FAR, signature=EARLY),
    "signed with another key": consented(FOREIGN, secret="another"),
    "a signature that is no text": consented(FOREIGN, signature=7),
    "an end that is no number": job(CONSENT, expires_at=str(FAR), signature=EARLY),
    "another consent's": Job(
        str(uuid.uuid4()), "image_fast", USER, "", consent_id="x", consent=consented(FOREIGN).consent
    ),
}


@pytest.mark.parametrize("consent", INVALID)
def test_a_consent_that_does_not_cover_exactly_this_is_none(guards, consent):
    assert rule_of(guards, INVALID[consent]) == "no_consent"


def test_without_a_secret_no_consent_is_valid(tmp_path, guards):
    without = type(guards.gate.references)(
        guards.gate.screen, guards.inspection.registry, fingerprint, guards.gate.audit.mac
    )
    with pytest.raises(Blocked):
        without.admit(consented(FOREIGN, secret=""), "adult", {"image": reference()})


@pytest.mark.parametrize(("age", "rule"), [(24.0, "minor_reference"), (math.nan, "scorer_failed"), (30.0, None)])
def test_a_possible_minors_picture_is_refused_in_adult_work_whatever_the_consent(tmp_path, age, rule):
    found = guarded(tmp_path, age=age, policy=ADULT)
    assert rule_of(found, consented(FOREIGN)) == rule
    assert rule_of(found, job(), "sfw") is None


def test_every_eighth_frame_of_a_clip_is_looked_at(tmp_path):
    clip = reference(frames=17)
    young = picture(1, 17)[16].mean()
    found = guarded(tmp_path, age=lambda frame: 15.0 if frame.mean() == young else 50.0, policy=ADULT)
    assert rule_of(found, consented(FOREIGN), "adult", clip) == "minor_reference"


@pytest.mark.parametrize("rating", ["sfw", "adult"])
def test_what_was_taken_down_is_no_reference_any_more_nor_is_a_copy_of_it(guards, rating):
    guards.inspection.registry.block("a job", [SECOND, fingerprint(picture(1)[0])], 0.0)
    assert rule_of(guards, consented(FOREIGN), rating, reference(FOREIGN, seed=1)) == "blocked_copy"
    assert rule_of(guards, consented(SECOND), rating, reference(SECOND, seed=2)) == "blocked_copy"


def test_a_refusal_is_written_down_with_the_files_hash(guards, tmp_path):
    rule_of(guards, job())
    (line,) = audited(tmp_path, "blocked")
    assert (line["gate"], line["rule"], line["sha256"]) == ("G2", "no_consent", [FOREIGN])


def parsed(**values) -> Job:
    message = {"id": str(uuid.uuid4()), "type": "image_fast", "user_id": USER, "prompt": "a red bicycle"}
    return payload.parse(json.dumps(message | values))


def test_a_consent_counts_at_the_payloads_top_level_only():
    signed = {"expires_at": FAR, "signature": "0" * 64}
    assert parsed(consent_id=CONSENT, consent=signed).consent == signed
    hidden = parsed(metadata={"consent_id": CONSENT, "consent": signed}, config={"consent_id": CONSENT})
    assert (hidden.consent_id, dict(hidden.consent)) == (None, {})


def test_all_texts_about_a_character_are_read_wherever_they_stand():
    job = parsed(
        character_name="Ada",
        metadata={"character_traits": ["tall", {"mood": "calm"}], "other": "unread"},
        config={"characterNotes": "x"},
    )
    assert {"Ada", "tall", "calm", "x"} <= set(job.character.split())
    assert "unread" not in job.character
