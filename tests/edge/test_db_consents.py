"""A consent covers one picture, the one that an admin saw, until it ends."""

from __future__ import annotations

import uuid
from urllib.parse import quote

import pytest
from dbrig import Database, denied, put, refused, run

from workers.payload import REFERENCE_KEYS
from workers.references.places import Stored, locate

GIVE = "insert into public.consents (user_id, reference_path) values (%s, %s)"


def url(path: str) -> dict[str, str]:
    return {
        "reference_image_url": f"https://project.supabase.co/storage/v1/object/sign/reference_images/{path}?token=t"
    }


def consented(db: Database, user: str, name: str = "") -> tuple[str, str]:
    """A verified consent and the path of its picture."""
    path = f"{user}/{name or f'{uuid.uuid4()}.png'}"
    put(db, "reference_images", path)
    consent = str(
        db.one("insert into public.consents (user_id, reference_path) values (%s, %s) returning id", user, path)
    )
    db.rpc("verify_consent", p_consent=consent)
    return consent, path


def consent_of(db: Database, user: str, config: dict[str, str]) -> str | None:
    found = db.create(user, config=config)["payload"].get("consent_id")
    return None if found is None else str(found)


def test_a_verified_consent_goes_into_the_message(db: Database) -> None:
    user = db.user()
    consent, path = consented(db, user)
    assert consent_of(db, user, url(path)) == consent
    assert consent_of(db, user, {}) is None


def test_a_consent_covers_neither_other_users_nor_other_pictures(db: Database) -> None:
    user, other = db.user(), db.user()
    _, path = consented(db, user)
    beside = (
        f"https://project.supabase.co/storage/v1/object/sign/reference_images/{user}/b.png?x=/reference_images/{path}"
    )
    assert consent_of(db, other, url(path)) is None
    assert consent_of(db, user, {"reference_image_url": beside}) is None
    assert consent_of(db, user, url(path) | {"first_frame": "https://example.com/b.png"}) is None


@pytest.mark.parametrize("key", REFERENCE_KEYS)
def test_a_consent_covers_one_picture_however_a_job_names_it(db: Database, key: str) -> None:
    user = db.user()
    consent, path = consented(db, user)
    assert {consent_of(db, user, {key: each}) for each in (path, f"reference_images/{path}")} == {consent}
    assert consent_of(db, user, {"reference_image_url": path, "last_frame": path, key: f"{path}?token=t"}) is None
    assert consent_of(db, user, {"reference_image_url": path, "last_frame": path, key: f"{user}/b.png"}) is None


def test_a_job_with_two_pictures_carries_a_consent_for_each_or_none(db: Database) -> None:
    user = db.user()
    (one, first), (two, last) = consented(db, user), consented(db, user)
    frames = {"first_frame": first, "last_frame": last}
    assert consent_of(db, user, frames) == ",".join(sorted((one, two)))
    made = db.create(user, config=frames)["job"]["id"]
    assert str(db.row("jobs", made)["consent_id"]) in (one, two)
    db.sql("update public.consents set revoked_at = now() where id = %s", two)
    assert consent_of(db, user, frames) is None
    with refused("PT409", "consent"):
        db.rpc("keep_consent", p_job=made, p_consent={"expires_at": 1, "signature": "00"})


NAMES = ["a b.png", "ä.png", "a+b.png", "100.png", "ж日.png"]


@pytest.mark.parametrize("name", NAMES)
def test_an_encoded_address_means_the_object_that_the_workers_read(db: Database, name: str) -> None:
    user = db.user()
    consent, path = consented(db, user, name)
    for encoded in (quote(path), f"{user}/" + "".join(f"%{byte:02X}" for byte in name.encode())):
        assert consent_of(db, user, url(encoded)) == consent
        located = locate(url(encoded)["reference_image_url"], user, "https://project.supabase.co", frozenset())
        assert located == Stored("reference_images", path)


@pytest.mark.parametrize("encoded", ["%61%2525.png", "%FF.png", "%.png", "%6", "%00.png"])
def test_an_address_with_another_reading_means_no_object(db: Database, encoded: str) -> None:
    user = db.user()
    consented(db, user, "a%25.png")
    consented(db, user, "a.png")
    assert consent_of(db, user, url(f"{user}/{encoded}")) is None


def test_a_signed_consent_joins_the_message_only_while_it_is_in_force(db: Database) -> None:
    user = db.user()
    _, path = consented(db, user)
    jobs = [db.create(user, config=url(path))["job"]["id"] for _ in range(2)]
    signed = {"expires_at": 1, "signature": "00"}
    assert db.rpc("keep_consent", p_job=jobs[0], p_consent=signed)["consent"] == signed
    db.sql("delete from storage.objects where name = %s", path)
    put(db, "reference_images", path)
    with refused("PT409", "consent"):
        db.rpc("keep_consent", p_job=jobs[1], p_consent=signed)


def test_a_picture_put_in_the_place_of_another_is_not_covered(db: Database) -> None:
    user = db.user()
    _, path = consented(db, user)
    db.sql("delete from storage.objects where name = %s", path)
    put(db, "reference_images", path)
    assert consent_of(db, user, url(path)) is None


@pytest.mark.parametrize("change", ["expires_at = now() - interval '1 s'", "revoked_at = now()", "verified_at = null"])
def test_a_consent_ends(db: Database, change: str) -> None:
    user = db.user()
    consent, path = consented(db, user)
    db.sql(f"update public.consents set {change} where id = %s", consent)
    assert consent_of(db, user, url(path)) is None


def test_users_give_consent_for_their_own_pictures_and_take_it_back_for_good(db: Database) -> None:
    own, other = db.user(), db.user()
    revoking = "update public.consents set revoked_at = {} where user_id = %s returning 1"
    with db.signed_in(own) as connection:
        run(connection, GIVE, own, f"{own}/a.png")
        for user, path in ((other, f"{other}/a.png"), (own, f"{other}/a.png"), (own, f"{own}/../{other}/a.png")):
            with denied(), connection.transaction():
                run(connection, GIVE, user, path)
        assert run(connection, revoking.format("now()"), own)
        with denied():
            run(connection, revoking.format("null"), own)


def test_only_admins_verify_and_only_what_is_there(db: Database) -> None:
    user = db.user()
    consent = db.one(
        "insert into public.consents (user_id, reference_path) values (%s, %s) returning id", user, f"{user}/a.png"
    )
    with refused("PT403", "admins_only"), db.signed_in(user) as connection:
        run(connection, "select public.verify_consent(%s)", consent)
    with refused("PT404", "unknown_consent"):
        db.rpc("verify_consent", p_consent=str(consent))
