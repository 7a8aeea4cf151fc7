"""The migrations: from nothing, again, beside other versions, and what they leave behind."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dbrig import OWNER, Database, installed, run

from workers.local.postgres import MIGRATIONS, PostgresServer, find_programs
from workers.local.supabase.buckets import SHARED, buckets_of
from workers.tables import load_presets

OPTIONAL = MIGRATIONS.parent / "optional"
PRESETS = {name: preset for name, preset in load_presets().items() if preset.media in ("image", "video")}
OURS = "('public'::regnamespace, 'private'::regnamespace)"
DEFINERS = f"""
    select p.oid::regprocedure::text as name, p.prosecdef as definer, coalesce(p.proconfig, '{{}}') as settings,
      array(select case a.grantee when 0 then 'public' else a.grantee::regrole::text end
            from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee <> p.proowner) as may
    from pg_proc p where p.pronamespace in {OURS}
"""
SCHEMA = f"""
    select json_build_object(
      'policies', (select json_agg(p order by p) from (
        select schemaname || tablename || policyname || coalesce(qual, '') as p from pg_policies) as policies),
      'columns', (select json_agg(c order by c) from (
        select relname || attname || atttypid::regtype as c from pg_attribute join pg_class on pg_class.oid = attrelid
        where relnamespace in {OURS} and attnum > 0) as columns),
      'functions', (select json_agg(f order by f) from (
        select oid::regprocedure::text || md5(prosrc) || proacl::text as f
        from pg_proc where pronamespace in {OURS}) as functions),
      'triggers', (select json_agg(t order by t) from (
        select pg_get_triggerdef(oid) as t from pg_trigger where not tgisinternal) as triggers),
      'types', (select json_agg(j order by type) from public.job_types as j),
      'buckets', (select json_agg(json_build_array(id, file_size_limit, allowed_mime_types) order by id)
                  from storage.buckets))
"""


def programs() -> list[Path]:
    """Every PostgreSQL within reach: the wheel's two, the system's."""
    found = find_programs()
    others = [found.parent.parent / "pginstall18" / "bin"] if found else []
    return [path for path in [*others, *Path("/usr/lib/postgresql").glob("*/bin")] if (path / "initdb").exists()]


def test_applied_again_they_change_nothing(own_db: Database) -> None:
    before = own_db.one(SCHEMA)
    own_db.server.migrate(own_db.name)
    assert own_db.one(SCHEMA) == before


def test_applied_again_they_keep_what_was_set_and_made(own_db: Database) -> None:
    own_db.sql("update public.job_types set credits = 9 where type = 'image_fast'")
    user = own_db.user()
    job = own_db.job(user)
    own_db.server.migrate(own_db.name)
    assert (own_db.status(job), own_db.credits(user)) == ("queued", 91)


def test_users_who_were_there_before_get_a_profile(postgres: PostgresServer) -> None:
    postgres.create("old")
    postgres.furnish("old")
    postgres.run("insert into auth.users (id) values ('11111111-1111-4111-8111-111111111111')", "old")
    postgres.migrate("old")
    assert postgres.run("select credits from public.profiles", "old") == "100"


@pytest.mark.parametrize("folder", programs(), ids=str)
def test_other_versions_take_them_too(folder: Path) -> None:
    with PostgresServer(folder) as server:
        server.create("other")
        server.install("other")
        server.migrate("other")
        with installed(server, "other") as db:
            user = db.user()
            job = db.job(user)
            db.hear(job, "completed")
            assert (db.status(job), db.credits(user)) == ("completed", 99)


def test_they_are_applied_without_being_superuser(db: Database) -> None:
    assert db.one("select rolsuper from pg_roles where rolname = current_user") is False


def test_job_types_are_the_workers_presets(db: Database) -> None:
    rows = {row["type"]: row for row in db.sql("select * from public.job_types where media <> 'text'")}
    assert rows.keys() == PRESETS.keys()
    for name, preset in PRESETS.items():
        row = rows[name]
        told = (row["queue"], row["media"], row["quality"], tuple(row["outputs"]))
        assert told == (f"{preset.kind}_queue", preset.media, preset.quality, preset.outputs)
        assert row["draft_steps"] < preset.steps


def test_twelve_private_buckets_with_the_workers_limits(db: Database) -> None:
    rows = {row["id"]: row for row in db.sql("select * from storage.buckets where id <> 'elsewhere'")}
    wanted = {name: bucket for name, bucket in buckets_of(PRESETS).items() if name != SHARED}
    assert rows.keys() == wanted.keys() | {"system_assets", "reference_images"}
    assert len(rows) == 12
    assert not any(row["public"] for row in rows.values())
    for name, bucket in wanted.items():
        assert (rows[name]["file_size_limit"], tuple(rows[name]["allowed_mime_types"])) == (
            bucket.limit,
            bucket.content_types,
        )


def test_every_table_has_row_level_security(db: Database) -> None:
    tables = "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
    assert db.sql(f"{tables} and not relrowsecurity") == []


def test_no_function_of_ours_depends_on_the_callers_search_path(db: Database) -> None:
    assert [f["name"] for f in db.sql(DEFINERS) if 'search_path=""' not in f["settings"]] == []


def test_only_named_functions_are_for_clients(db: Database) -> None:
    by_clients = {f["name"] for f in db.sql(DEFINERS) if {"public", "anon", "authenticated"} & set(f["may"])}
    assert by_clients == {
        "grant_credits(uuid,integer,text)",
        "set_profile(uuid,jsonb)",
        "verify_consent(uuid)",
        "private.is_admin()",
        "private.owns_path(text)",
        "private.holds_results(text)",
        "private.ended(job_status)",
        "private.refuse(integer,text,text,text)",
    }


def test_browsers_hear_of_jobs_images_and_videos(db: Database) -> None:
    told = db.sql("select tablename from pg_publication_tables where pubname = 'supabase_realtime' order by 1")
    assert [row["tablename"] for row in told] == ["images", "jobs", "videos"]


OLD_JOBS = """
    insert into public.jobs (user_id, job_type, queue, quality, status, created_at, completed_at)
    select id, 'image_fast', 'wan_queue', 'fast',
      (case when mod(n, 1000) = 0 then 'queued' else 'completed' end)::public.job_status,
      now() - n * interval '1 minute', case when mod(n, 1000) = 0 then null else now() end
    from (select id, row_number() over () as place from public.profiles) as users, generate_series(1, 20000) as n
    where place = 1 + mod(n, 200)
"""


@pytest.fixture(scope="module")
def busy(postgres: PostgresServer) -> Iterator[Database]:
    """20,000 old jobs of 200 users, each with an image, and a few open ones."""
    postgres.create("busy", template="as_installed")
    with installed(postgres, "busy") as db:
        db.sql("insert into auth.users (id) select gen_random_uuid() from generate_series(1, 200)")
        with db.connect(OWNER) as root:
            run(root, "set session_replication_role = replica")
            run(root, OLD_JOBS)
            run(root, "insert into public.images (user_id, job_id, image_index) select user_id, id, 0 from public.jobs")
            run(
                root,
                "insert into public.credit_ledger (user_id, job_id, kind, amount, created_at) "
                "select user_id, id, 'reserve', -1, created_at from public.jobs",
            )
            run(root, "analyze")
        yield db


QUERIES = {
    "a user's newest jobs": (
        "jobs_by_user",
        "select * from jobs where user_id = '{user}' order by created_at desc limit 20",
    ),
    "a user's newest images": (
        "images_by_user",
        "select * from images where user_id = '{user}' order by created_at desc limit 20",
    ),
    "images of a job": (
        "images_job_id_image_index_key",
        "select * from images where job_id = '{job}' order by image_index",
    ),
    "the reconciler's open jobs": (
        "jobs_by_status",
        "select id, job_type, created_at from jobs where status = any ('{{queued,processing}}') "
        "and created_at >= now() - interval '1 day' and created_at < now() - interval '2 min' "
        "order by created_at limit 1000",
    ),
    "the reconciler's rows": ("jobs_pkey", "select * from jobs where id = any ('{{{job}}}')"),
    "what the cap counts": ("jobs_by_", "select count(*) from jobs where user_id = '{user}' and status = 'queued'"),
    "what the quota counts": (
        "ledger_by_user",
        "select count(*) from credit_ledger where user_id = '{user}' and created_at >= date_trunc('day', now())",
    ),
}


@pytest.mark.parametrize("what", QUERIES)
def test_the_queries_that_are_asked_often_use_an_index(busy: Database, what: str) -> None:
    index, query = QUERIES[what]
    ids = {"user": busy.one("select user_id from jobs limit 1"), "job": busy.one("select id from jobs limit 1")}
    plan = json.dumps(busy.one("explain (format json) " + query.format(**ids)))
    assert f'"Index Name": "{index}' in plan
    assert "Seq Scan" not in plan


def test_the_bucket_of_the_other_dialect_is_an_option(own_db: Database) -> None:
    own_db.server.execute(OPTIONAL / "workspace_temp.sql", own_db.name)
    row = own_db.sql("select * from storage.buckets where id = %s", SHARED)[0]
    wanted = buckets_of(PRESETS)[SHARED]
    assert (row["file_size_limit"], tuple(row["allowed_mime_types"])) == (wanted.limit, wanted.content_types)
    assert row["public"] is False


def test_the_tools_configuration_names_every_function() -> None:
    config = tomllib.loads((OPTIONAL.parent / "config.toml").read_text())
    functions = {path.parent.name for path in (OPTIONAL.parent / "functions").glob("*/index.ts")}
    assert config["functions"].keys() == functions
