"""Who reaches which object, as PostgreSQL itself decides it: by the first segment of its path, and by its bucket."""

from __future__ import annotations

import uuid

import pytest
from dbrig import Connection, Database, denied, insert, put, run

from workers.local.supabase.buckets import SHARED, buckets_of
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
