"""Taking something back, with a report of what was done."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.screen import AsJson, emit, fail, out
from workers.job import UUID

if TYPE_CHECKING:
    from workers.safety.audit import Chain
    from workers.safety.registry import Registry
    from workers.safety.removal import Place, Takedown
    from workers.settings import Settings

OPERATOR = "operator"
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", show_default=False)]
UserId = Annotated[str, typer.Argument(metavar="USER", help="Id of the user.", show_default=False)]
Dry = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Near = Annotated[int, typer.Option("--near", min=0, max=16, help="How many of 64 bits may differ in a copy.")]
WithCopies = Annotated[bool, typer.Option("--with-copies", help="Delete the objects of near copies too.")]


def takedown(
    job_id: JobId, dry_run: Dry = False, near: Near = 8, with_copies: WithCopies = False, as_json: AsJson = False
) -> None:
    """Delete a job's results and see to it that they do not come back.

    Near copies among everything that was made are found; they and the results go onto the block list, which
    references and outputs are compared with.
    """
    from workers.safety.removal import find
    from workers.settings import load_settings

    settings = load_settings()
    chain, registry = _audit(settings)
    found = find(registry, job_id, _place_by_rows(settings, job_id), near)
    if found.place is None and not found.entries:
        raise fail(f"Nothing is known of job {job_id}: no hash, no row.")
    gone = [] if dry_run else _carry_out(settings, found, chain, registry, with_copies=with_copies)
    _report(found, gone, dry=dry_run, as_json=as_json)


def forget(user_id: UserId, dry_run: Dry = False, as_json: AsJson = False) -> None:
    """Delete all that is held of a user: objects, rows, waiting files, remembered results, the dead list's entries.

    The audit keeps hashes; which of them are the user's is no longer known.
    """
    from workers.cli.queues import views
    from workers.delivery.outbox import Outbox
    from workers.safety.removal import forget_files, forget_pseudonym
    from workers.settings import load_settings
    from workers.supabase.erasure import Erasure

    if not UUID.fullmatch(user_id):
        raise fail("A user's id is a UUID in lower case.")
    settings = load_settings()
    chain, registry = _audit(settings)
    key = settings.supabase_service_key.get_secret_value()
    with closing(Erasure(settings.supabase_url, key)) as project, views(settings) as queues:
        jobs = {*project.jobs(user_id), *(entry.job for entry in registry.of_user(chain.mac(user_id)))}
        done: dict[str, Any] = {"jobs": len(jobs)}
        done["queued or remembered"] = sum(queue.forget_user(user_id, jobs, dry=dry_run) for queue in queues)
        characters = settings.model_root.parent / "characters"
        done["files"] = forget_files(user_id, Outbox(settings.outbox), characters, dry=dry_run)
        done["objects"] = project.objects(user_id, dry=dry_run)
        done["rows"] = project.rows(user_id, dry=dry_run)
        if not dry_run:
            done["hashes"] = forget_pseudonym(user_id, registry, chain)
    _say({"user": user_id, "dry_run": dry_run, **done}, as_json=as_json)


def _audit(settings: Settings) -> tuple[Chain, Registry]:
    from workers.safety.guards import open_audit

    return open_audit(f"{OPERATOR}@{settings.worker_name}", settings)


def _place_by_rows(settings: Settings, job_id: str) -> Place | None:
    """Where the project's own table says that the job belongs."""
    from workers.errors import Unreachable
    from workers.safety.removal import Place
    from workers.supabase.rows import JobRows

    with closing(JobRows(settings.supabase_url, settings.supabase_service_key.get_secret_value())) as rows:
        try:
            return next((Place(row["job_type"], row["user_id"]) for row in rows.of([job_id])), None)
        except Unreachable:
            return None


def _carry_out(
    settings: Settings, found: Takedown, chain: Chain, registry: Registry, *, with_copies: bool
) -> list[str]:
    from workers.cli.queues import views
    from workers.delivery.outbox import Outbox
    from workers.kinds import open_storage
    from workers.safety.removal import take_down

    with closing(open_storage(settings)) as storage, views(settings) as queues:
        return take_down(
            found,
            registry=registry,
            audit=chain,
            objects=storage,
            outbox=Outbox(settings.outbox),
            results=queues,
            with_copies=with_copies,
        )


def _report(found: Takedown, gone: list[str], *, dry: bool, as_json: bool) -> None:
    copies = [{"job": copy.job, "output": copy.position, "distance": copy.distance} for copy in found.copies]
    facts = {
        "job": found.job,
        "dry_run": dry,
        "outputs": len(found.entries),
        "too plain to be known again": found.plain,
        "copies": copies,
        "objects deleted of": gone,
        "place known": found.place is not None,
    }
    _say(facts, as_json=as_json)


def _say(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(facts)
        return
    for name, value in facts.items():
        out().print(f"{name}: {value}")
