"""Who reaches which object, as PostgreSQL itself decides it: by the first segment of its path, and by its bucket."""

from __future__ import annotations

import uuid

import pytest
from dbrig import Connection, Database, denied, refused, run

from workers.local.supabase.buckets import SHARED, buckets_of
from workers.payload import REFERENCE_KEYS
from workers.tables import load_presets

RESULTS = sorted(set(buckets_of(load_presets())) - {SHARED, "enhance_prompt", "reference_images"})
BUCKETS = [*RESULTS, "reference_images", "system_assets"]
ASTRAY = [
    "../{own}/0.png",
    "{other}/../{own}/0.png",
    "{own}/../{other}/0.png",
    "{own}/./0.png",
    "{own}//0.png",
    "/{own}/0.png",
]
ASTRAY += [
    "{own}",
    "{own}/",
    "{own}/%2e%2e/{other}/0.png",
    "{own}\\..\\{other}/0.png",
    "{own}x/0.png",
    "{own}/a\n/0.png",
    "",
]


GIVE = "insert into public.consents (user_id, reference_path) values (%s, %s)"


def put(db: Database, bucket: str, name: str) -> str:
    """An object that the service wrote."""
    with db.acting("service_role", None, keep=True) as connection:
        return insert(connection, bucket, name)


def insert(connection: Connection, bucket: str, name: str) -> str:
    (row,) = run(connection, "insert into storage.objects (bucket_id, name) values (%s, %s) returning id", bucket, name)
    return str(row["id"])


def touched(connection: Connection, action: str, object_id: str) -> bool:
    return bool(
        run(connection, f"{action} where id = %s {'' if action.startswith('select') else 'returning id'}", object_id)
    )


READ, CHANGE, DELETE = (
    "select id from storage.objects",
    "update storage.objects set metadata = '{}'",
    "delete from storage.objects",
)


@pytest.mark.parametrize("bucket", [*RESULTS, "reference_images"])
def test_users_reach_their_own_folder_and_no_other(db: Database, bucket: str) -> None:
    own, other = db.user(), db.user()
    mine, theirs = (put(db, bucket, f"{user}/{uuid.uuid4()}/0.png") for user in (own, other))
    with db.signed_in(own) as connection:
        assert touched(connection, READ, mine)
        assert not touched(connection, READ, theirs)
        assert not touched(connection, DELETE, theirs)
        assert not touched(connection, CHANGE, theirs)
        assert touched(connection, DELETE, mine)


@pytest.mark.parametrize("bucket", RESULTS)
def test_results_are_written_by_workers_only(db: Database, bucket: str) -> None:
    user = db.user()
    mine = put(db, bucket, f"{user}/{uuid.uuid4()}/0.png")
    with db.signed_in(user) as connection:
        assert not touched(connection, CHANGE, mine)
        with denied():
            insert(connection, bucket, f"{user}/own.png")


def test_references_are_added_in_ones_own_folder_and_never_written_over(db: Database) -> None:
    own, other = db.user(), db.user()
    with db.signed_in(own) as connection:
        mine = insert(connection, "reference_images", f"{own}/lighthouse.png")
        assert not touched(connection, CHANGE, mine)
        with denied():
            insert(connection, "reference_images", f"{other}/lighthouse.png")


@pytest.mark.parametrize("name", ASTRAY)
def test_paths_that_lead_astray_are_nobodys(db: Database, name: str) -> None:
    own, other = db.user(), db.user()
    path = name.format(own=own, other=other)
    stray = put(db, "image_fast", path or " ")
    for user in (own, other):
        with db.signed_in(user) as connection:
            assert not touched(connection, READ, stray)
            assert not touched(connection, DELETE, stray)
            with denied():
                insert(connection, "reference_images", path)


def test_an_object_cannot_be_moved_to_another_user(db: Database) -> None:
    own, other = db.user(), db.user()
    mine = put(db, "reference_images", f"{own}/a.png")
    with db.signed_in(own) as connection:
        assert not touched(connection, f"update storage.objects set name = '{other}/a.png'", mine)


@pytest.mark.parametrize("bucket", BUCKETS)
def test_nobody_signed_in_reaches_nothing(db: Database, bucket: str) -> None:
    user = db.user()
    lying = put(db, bucket, f"{user}/{uuid.uuid4()}.png")
    with db.nobody() as connection:
        assert not touched(connection, READ, lying)
        assert not touched(connection, DELETE, lying)
        with denied():
            insert(connection, bucket, f"{user}/b.png")


def test_system_assets_are_everybodys_to_read_and_admins_to_change(db: Database) -> None:
    user = db.user()
    logo = put(db, "system_assets", f"{user}/{uuid.uuid4()}.png")
    with db.signed_in(user) as connection:
        assert touched(connection, READ, logo)
        assert not touched(connection, CHANGE, logo)
        assert not touched(connection, DELETE, logo)
        with denied():
            insert(connection, "system_assets", f"{user}/logo.png")
    with db.signed_in(db.admin()) as connection:
        insert(connection, "system_assets", f"{uuid.uuid4()}.png")
        assert touched(connection, CHANGE, logo)
        assert touched(connection, DELETE, logo)


@pytest.mark.parametrize("bucket", RESULTS)
def test_admins_read_and_delete_results_but_write_none(db: Database, bucket: str) -> None:
    user = db.user()
    theirs = put(db, bucket, f"{user}/{uuid.uuid4()}/0.png")
    with db.signed_in(db.admin()) as connection:
        assert touched(connection, READ, theirs)
        assert not touched(connection, CHANGE, theirs)
        assert touched(connection, DELETE, theirs)


def test_buckets_outside_the_project_are_not_opened_by_its_policies(db: Database) -> None:
    user = db.user()
    db.sql("insert into storage.buckets (id, name) values ('elsewhere', 'elsewhere') on conflict do nothing")
    lying = put(db, "elsewhere", f"{user}/{uuid.uuid4()}.png")
    with db.signed_in(user) as connection:
        assert not touched(connection, READ, lying)


# A consent covers one picture, the one that an admin saw.


def url(path: str) -> dict[str, str]:
    return {
        "reference_image_url": f"https://project.supabase.co/storage/v1/object/sign/reference_images/{path}?token=t"
    }


def consented(db: Database, user: str) -> tuple[str, str]:
    """A verified consent and the path of its picture."""
    path = f"{user}/{uuid.uuid4()}.png"
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
