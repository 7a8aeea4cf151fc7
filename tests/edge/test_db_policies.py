"""Who sees and does what with the tables, as PostgreSQL itself decides it."""

from __future__ import annotations

from typing import Any

import pytest
from dbrig import Connection, Database, call, denied, refused, run

OWN = ["jobs", "images", "videos", "credit_ledger", "usage_logs", "consents"]
HIDDEN = ["webhook_ids", "rate_tokens"]
OPEN = ["job_types", "tiers"]
Two = tuple[str, str]
ALL = [*OWN, "profiles", *HIDDEN, *OPEN, "system_config"]
KEEP_AWAY = {
    "jobs": [
        "status",
        "credits",
        "user_id",
        "consent_id",
        "priority",
        "rating",
        "payload",
        "metadata",
        "fence",
        "queue",
    ],
    "images": ["status", "user_id", "job_id", "image_url", "bucket", "metadata", "prompt"],
    "videos": ["status", "user_id", "job_id", "video_url", "bucket", "metadata", "prompt"],
    "profiles": ["role", "tier", "credits", "max_rating", "suspended", "id"],
    "consents": ["verified_at", "verified_by", "object_id", "user_id", "reference_path"],
    "credit_ledger": ["amount", "user_id"],
    "usage_logs": ["credits", "user_id"],
}
COLUMNS = [(table, column) for table, columns in KEEP_AWAY.items() for column in columns]
SERVICE_ONLY = {
    "create_job": {"p_user": "", "p_request": {}},
    "promote_job": {"p_user": "", "p_job": ""},
    "cancel_job": {"p_user": "", "p_job": ""},
    "fail_push": {"p_job": ""},
    "receive_callback": {"p_body": {}},
    "queue_estimate": {"p_job": ""},
    "take_token": {"p_user": ""},
    "housekeeping": {},
}


def furnished(db: Database) -> str:
    """A user with a row in each table that may hold one."""
    user = db.user()
    for job_type in ("image_fast", "video_fast"):
        db.hear(db.job(user, job_type), "completed")
    db.sql("insert into public.consents (user_id, reference_path) values (%s, %s)", user, f"{user}/a.png")
    db.rpc("take_token", p_user=user)
    return user


@pytest.fixture(scope="module")
def two(shared: Database) -> Two:
    return furnished(shared), furnished(shared)


def owner_column(table: str) -> str:
    return "id" if table == "profiles" else "user_id"


def seen(connection: Connection, table: str, user: str) -> int:
    rows = run(connection, f"select count(*) as n from public.{table} where {owner_column(table)} = %s", user)
    return int(rows[0]["n"])


@pytest.mark.parametrize("table", [*OWN, "profiles"])
def test_users_read_their_own_rows_and_no_others(db: Database, two: Two, table: str) -> None:
    own, other = two
    with db.signed_in(own) as connection:
        assert seen(connection, table, own) > 0
        assert seen(connection, table, other) == 0
        (all_seen,) = run(
            connection, f"select count(*) as n from public.{table} where {owner_column(table)} <> %s", own
        )
        assert all_seen["n"] == 0


@pytest.mark.parametrize("table", [*OWN, "profiles"])
def test_admins_read_everybodys_rows(db: Database, two: Two, table: str) -> None:
    with db.signed_in(db.admin()) as connection:
        assert all(seen(connection, table, user) > 0 for user in two)


@pytest.mark.parametrize("table", HIDDEN)
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_what_serves_the_functions_is_nobodys_to_read(db: Database, two: Two, table: str, role: str) -> None:
    with denied(), db.acting(role, two[0]) as connection:
        run(connection, f"select * from public.{table}")


@pytest.mark.parametrize("table", ALL)
def test_nobody_signed_in_reads_only_prices(db: Database, table: str) -> None:
    with db.nobody() as connection:
        if table in OPEN:
            assert run(connection, f"select * from public.{table}")
            return
        with denied(), connection.transaction():
            run(connection, f"select * from public.{table}")


@pytest.mark.parametrize("table", ALL)
@pytest.mark.parametrize(
    "action", ["insert into public.{} default values", "delete from public.{}", "truncate public.{}"]
)
def test_nobody_signed_in_writes_nothing(db: Database, table: str, action: str) -> None:
    with denied(), db.nobody() as connection:
        run(connection, action.format(table))


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_users_cannot_write_what_the_server_decides(db: Database, two: Two, table: str, column: str) -> None:
    own = two[0]
    with denied(), db.signed_in(own) as connection:
        run(connection, f"update public.{table} set {column} = {column} where {owner_column(table)} = %s", own)


@pytest.mark.parametrize("table", ["jobs", "images", "videos", "credit_ledger", "usage_logs", "profiles"])
def test_users_insert_nothing_but_consents(db: Database, two: Two, table: str) -> None:
    with denied(), db.signed_in(two[0]) as connection:
        run(connection, f"insert into public.{table} ({owner_column(table)}) values (%s)", two[0])


@pytest.mark.parametrize("table", ["jobs", "images", "videos"])
def test_users_delete_their_own_and_no_others(db: Database, two: Two, table: str) -> None:
    own, other = two
    with db.signed_in(own) as connection:
        assert run(connection, f"delete from public.{table} where user_id = %s returning id", other) == []
        assert run(connection, f"delete from public.{table} where user_id = %s returning id", own)


@pytest.mark.parametrize("table", ["credit_ledger", "usage_logs", "consents", "profiles"])
def test_accounts_cannot_be_deleted_by_whom_they_are_kept(db: Database, two: Two, table: str) -> None:
    with denied(), db.signed_in(two[0]) as connection:
        run(connection, f"delete from public.{table}")


def test_a_job_under_way_cannot_be_deleted(db: Database) -> None:
    user = db.user()
    job = db.job(user)
    with db.signed_in(user) as connection:
        assert run(connection, "delete from public.jobs where id = %s returning id", job) == []
        assert run(connection, "delete from public.images where job_id = %s returning id", job) == []


@pytest.mark.parametrize(("table", "column"), [("images", "title"), ("videos", "title"), ("profiles", "username")])
def test_users_name_their_own_and_no_others(db: Database, two: Two, table: str, column: str) -> None:
    own, other = two
    naming = f"update public.{table} set {column} = 'dusk' where {owner_column(table)} = %s returning 1"
    with db.signed_in(own) as connection:
        assert run(connection, naming, own)
        assert run(connection, naming, other) == []


@pytest.mark.parametrize("table", ["job_types", "tiers", "system_config"])
def test_settings_are_changed_by_admins_only(db: Database, two: Two, table: str) -> None:
    column = {"job_types": "credits", "tiers": "priority", "system_config": "description"}[table]
    changing = f"update public.{table} set {column} = {column} returning 1"
    with db.signed_in(two[0]) as connection:
        assert run(connection, changing) == []
    with db.signed_in(db.admin()) as connection:
        assert run(connection, changing)


def test_users_do_not_read_the_settings(db: Database, two: Two) -> None:
    with db.signed_in(two[0]) as connection:
        assert run(connection, "select * from public.system_config") == []


@pytest.mark.parametrize("name", SERVICE_ONLY)
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_functions_that_decide_are_not_for_clients(db: Database, two: Two, name: str, role: str) -> None:
    arguments: dict[str, Any] = {
        key: value or (two[0] if value == "" else {}) for key, value in SERVICE_ONLY[name].items()
    }
    with denied(), db.acting(role, two[0]) as connection:
        call(connection, name, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("grant_credits", {"p_amount": 1000, "p_reason": "please"}),
        ("set_profile", {"p_changes": {"role": "admin"}}),
    ],
)
def test_nobody_makes_themselves_rich_or_an_admin(db: Database, two: Two, name: str, arguments: Any) -> None:
    own = two[0]
    with refused("PT403", "admins_only"), db.signed_in(own) as connection:
        call(connection, name, p_user=own, **arguments)
    with denied(), db.nobody() as connection:
        call(connection, name, p_user=own, **arguments)
    with db.signed_in(db.admin()) as connection:
        assert call(connection, name, p_user=own, **arguments)


@pytest.mark.parametrize(
    "claims", ['{"role": "service_role"}', '{"app_metadata": {"role": "admin"}}', '{"is_admin": true}']
)
def test_claims_alone_make_no_admin(db: Database, two: Two, claims: str) -> None:
    with refused("PT403", "admins_only"), db.signed_in(two[0]) as connection:
        run(connection, "select set_config('request.jwt.claims', %s, true)", claims)
        call(connection, "grant_credits", p_user=two[0], p_amount=1, p_reason="claimed")


def test_a_suspended_admin_is_none(db: Database, two: Two) -> None:
    with db.signed_in(db.user(role="admin", suspended=True)) as connection:
        assert seen(connection, "jobs", two[0]) == 0


def test_not_even_the_service_key_writes_money_or_roles_directly(db: Database, two: Two) -> None:
    for statement in ("update public.profiles set credits = 999", "insert into public.credit_ledger default values"):
        with denied(), db.acting("service_role", None) as connection:
            run(connection, statement)


def test_usage_by_day_shows_ones_own_lines(db: Database, two: Two) -> None:
    with db.signed_in(two[0]) as connection:
        assert {str(row["user_id"]) for row in run(connection, "select user_id from public.usage_by_day")} == {two[0]}
    with denied(), db.nobody() as connection:
        run(connection, "select * from public.usage_by_day")


def test_helpers_are_out_of_reach(db: Database, two: Two) -> None:
    for statement in (
        "select private.pay(%s, 'grant', 9, null, '')",
        "select private.enqueue(null, '{}', %s)",
        "select private.setting(%s)",
    ):
        with denied(), db.signed_in(two[0]) as connection:
            run(connection, statement, two[0])
