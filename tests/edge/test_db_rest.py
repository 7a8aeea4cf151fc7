"""What the workers read and write through the REST interface of the project's own tables, unchanged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from fnrig import PROMPT, Browser, Worker, message

from workers.job import Delivery, Outcome
from workers.kinds import KINDS, open_callbacks, open_queue
from workers.local.edge.stack import EdgeStack
from workers.settings import Settings
from workers.supabase.rows import JobRows
from workers.supervision.reconciler import Reconciler
from workers.tables import load_presets

KIND_OF = {preset.type: preset.kind for preset in load_presets().values()}
HOUR = 3600.0


@pytest.fixture
def settings(edge: EdgeStack) -> Settings:
    return Settings(_env_file=None, **{name.lower(): value for name, value in edge.env.items()})


@pytest.fixture
def rows(settings: Settings) -> Iterator[JobRows]:
    with closing(JobRows(settings.supabase_url, settings.supabase_service_key.get_secret_value())) as found:
        yield found


@pytest.fixture
def reconciler(settings: Settings, rows: JobRows, edge: EdgeStack) -> Iterator[Reconciler]:
    edge.redis.flush()
    with ExitStack() as opened:
        queues = {kind: opened.enter_context(closing(open_queue(kind, settings))) for kind in KINDS}
        callbacks = opened.enter_context(closing(open_callbacks(settings)))
        yield Reconciler(rows, queues, callbacks, kinds=KIND_OF, who="one")


def aged(edge: EdgeStack, job: dict[str, Any], minutes: int = 30) -> dict[str, Any]:
    edge.sql(f"update public.jobs set created_at = now() - interval '{minutes} min' where id = '{job['id']}'")
    return job


def test_open_jobs_are_found_by_their_age_the_oldest_first(browser: Browser, rows: JobRows) -> None:
    jobs = [aged(browser.edge, browser.queued(), minutes) for minutes in (20, 40)]
    ended = aged(browser.edge, browser.queued(), 30)
    Worker(browser.edge, ended).says("failed")
    now = time.time()
    found = [row["id"] for row in rows.open_between(now - HOUR, now - 600)]
    assert [id_ for id_ in found if id_ in {job["id"] for job in [*jobs, ended]}] == [jobs[1]["id"], jobs[0]["id"]]
    assert rows.open_between(now + HOUR, now + 2 * HOUR) == []


def test_a_lost_job_comes_back_as_it_was_sent(browser: Browser, reconciler: Reconciler) -> None:
    job = aged(browser.edge, browser.queued("sdxl_image_high", draft=True, config={"num_images": 3, "seed": 0}))
    sent = message(browser.edge, job["id"], "sdxl_queue")
    browser.edge.redis.flush()
    reconciler.reconcile()
    assert sent is not None
    assert message(browser.edge, job["id"], "sdxl_queue") == sent
    assert (sent["prompt"], sent["config"]["seed"], sent["config"]["num_inference_steps"]) == (PROMPT, 0, 8)


def test_a_lost_job_whose_prompt_is_lost_too_fails_and_costs_nothing(browser: Browser, reconciler: Reconciler) -> None:
    job = aged(browser.edge, browser.queued())
    browser.edge.sql(f"update public.jobs set payload = null, metadata = '{{}}' where id = '{job['id']}'")
    browser.edge.redis.flush()
    reconciler.reconcile()
    worker = Worker(browser.edge, job)
    assert (worker.row["status"], worker.images[0]["status"]) == ("failed", "failed")


def test_a_picture_without_index_is_adopted_by_the_workers_patch(browser: Browser, settings: Settings) -> None:
    job = browser.queued("image_fast")
    browser.edge.sql(f"update public.images set image_index = null where job_id = '{job['id']}'")
    path = f"{job['user_id']}/{job['id']}/0.png"
    delivery = Delivery(0, "image_fast", path, "image/png", (480, 832), 1, seed=7, bytes=100)
    with closing(open_callbacks(settings)) as callbacks:
        callbacks.adopt_image(Outcome(job["id"], "image_fast", "completed", (delivery,)))
    (image,) = Worker(browser.edge, job).images
    assert (image["status"], image["image_url"]) == ("completed", path)
