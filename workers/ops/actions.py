"""What operators do from a page or a command line: jobs given up are put back, callbacks sent again, queues paused.

Every function raises `Unreachable` where the queue does not answer, and `NotThere` with a sentence.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from itertools import islice
from typing import Any

import httpx

from workers.claim import DeadEntry
from workers.cli.queues import QueueView, views
from workers.delivery.report import Report
from workers.kinds import open_callbacks, queue_of
from workers.ops.status import stamp
from workers.queue.budget import Budget
from workers.queue.rest import RestConnection
from workers.settings import Settings
from workers.supabase.web import auth_headers, reaching
from workers.trust import trusted

CANCELLED_S = 86_400
MOST_DEAD = 50


class NotThere(Exception):
    """What was asked for is not, or no longer, there; the text says so to an operator."""


class NotAccepted(Exception):
    """The other side did not take it; the text says so to an operator."""


def dead(settings: Settings, count: int = MOST_DEAD) -> list[dict[str, Any]]:
    """What was given up, the newest of each queue first, without contents."""
    with views(settings) as opened:
        found = [(view.name, entry) for view in opened for entry in islice(view.dead(), count)]
    return [{"queue": name, **header(entry)} for name, entry in found]


def header(entry: DeadEntry) -> dict[str, Any]:
    return {"id": entry.id, "job_id": entry.job_id, "at": stamp(entry.at), "reason": entry.reason}


def find(opened: Iterable[QueueView], wanted: str) -> tuple[QueueView, DeadEntry]:
    """An entry by its id, or by that of its job."""
    for view in opened:
        for entry in view.dead():
            if wanted in (entry.id, entry.job_id):
                return view, entry
    raise NotThere(f"{wanted} is not on a dead list; `dead list` shows what is.")


def requeue(settings: Settings, wanted: str) -> dict[str, Any]:
    """Back to the end of its queue, with all counts at zero."""
    with views(settings) as opened:
        view, entry = find(opened, wanted)
        if not view.queue.requeue(entry.id):
            raise NotThere(f"{wanted} is no longer on the dead list.")
    return {"id": entry.id, "job_id": entry.job_id, "queue": view.name}


def remembered(settings: Settings, job_id: str) -> Report:
    with views(settings) as opened:
        found = next(filter(None, (view.remembered(job_id) for view in opened)), None)
    if found is None:
        raise NotThere(f"No result of job {job_id} is remembered; `dead requeue` makes it anew.")
    try:
        return Report.from_record(found.record)
    except (KeyError, TypeError):
        raise NotThere("The remembered result was written by another version of the workers.") from None


def replay(settings: Settings, job_id: str) -> dict[str, Any]:
    """Send a job's callback again, from the result remembered for a day. Raises `NotAccepted` too."""
    report = remembered(settings, job_id)
    callbacks = open_callbacks(settings)
    try:
        verdict = callbacks.send(report.outcome, report.user_id)
        if not verdict.accepted:
            raise NotAccepted(f"The callback was not accepted: {verdict.reason}.")
        callbacks.adopt_image(report.outcome)
    finally:
        callbacks.close()
    return {"job_id": job_id, "status": report.outcome.status, "assets": len(report.outcome.deliveries)}


def cancel(settings: Settings, job_id: str) -> dict[str, Any]:
    """Withdraw a job: who works on it stops at its next step, who would claim it drops it."""
    job = str(uuid.UUID(job_id))
    redis = RestConnection(
        settings.upstash_redis_rest_url,
        settings.upstash_redis_rest_token.get_secret_value(),
        timeout=10,
        budget=Budget(),
    )
    try:
        redis.execute(("SET", f"cancel:{job}", "1", "EX", CANCELLED_S))
    finally:
        redis.close()
    return {"job_id": job, "cancelled": True}


def pause(settings: Settings, kind: str, *, paused: bool) -> dict[str, Any]:
    """Have no worker, on any machine, claim jobs of this kind, or have them claim again."""
    with views(settings, kind) as (view,):
        if paused:
            view.queue.pause()
        else:
            view.queue.resume()
    return {"queue": queue_of(kind), "paused": paused}


def submit(settings: Settings, job_type: str, prompt: str, images: int | None) -> dict[str, Any]:
    """Queue a job as the web page does, through the project's own function. Raises `NotAccepted` too."""
    request = {"jobType": job_type, "prompt": prompt, "metadata": {} if images is None else {"num_images": images}}
    with reaching("queue-job"), httpx.Client(headers=_caller(settings), timeout=20, verify=trusted()) as http:
        answer = http.post(f"{settings.supabase_url}/functions/v1/queue-job", json=request)
    if not answer.is_success:
        raise NotAccepted(f"queue-job answered {answer.status_code}.")
    said = answer.json()
    job = said.get("job") if isinstance(said.get("job"), dict) else said
    return {"job_id": job.get("id") or said.get("job_id") or said.get("jobId")}


def _caller(settings: Settings) -> dict[str, str]:
    headers, user = auth_headers(settings.supabase_service_key.get_secret_value()), settings.queue_job_token
    return headers if user is None else {**headers, "Authorization": f"Bearer {user.get_secret_value()}"}
