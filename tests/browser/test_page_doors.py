"""The page with a token, without a server, and with a worker that dies: real orchestrators, killed under its eyes."""

from __future__ import annotations

import os
import re
import signal
import socket

import pytest
from playwright.sync_api import expect

from workers.ops.room import ADDRESS

pytestmark = [pytest.mark.ring2, pytest.mark.timeout(180)]

TOKEN = "a-token-of-the-operators"
FOLLOW = """() => {
    globalThis.percentages = [];
    const bar = document.querySelector(".lane [role=progressbar]");
    new MutationObserver(() => percentages.push(bar.getAttribute("aria-valuenow"))).observe(bar, { attributes: true });
}"""
"""Keep what the page shows of a job, however short it shows it."""


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def pods(pod, port):
    """Lives of one orchestrator, each at the same address with the same token. Its jobs take six seconds."""

    def begin():
        life = pod("orchestrator", ops_address=f"127.0.0.1:{port}", ops_token=TOKEN, evil_step_seconds=1.6)
        life.wait_until((life.run_dir / ADDRESS).exists)
        return life

    return begin


@pytest.fixture
def life(pods):
    return pods()


@pytest.fixture
def page(life, tabs, port):
    """The page behind its token."""
    tabs.refusals = True
    opened = tabs.open(f"http://127.0.0.1:{port}/")
    show_token(opened, TOKEN)
    expect(opened.locator("#link")).to_have_text("live")
    return opened


def show_token(page, token):
    page.get_by_label("Token", exact=True).fill(token)
    page.get_by_role("button", name="Open", exact=True).click()


def end(life):
    """At once, with its worker, so that no other one serves."""
    beat = life.beat()
    life.process.kill()
    life.process.wait()
    if beat:
        os.killpg(beat.pid, signal.SIGKILL)


def test_a_token_is_asked_for_and_kept_out_of_sight(life, tabs, port):
    tabs.refusals = True
    page = tabs.open(f"http://127.0.0.1:{port}/")
    show_token(page, "not-the-token-at-all")
    expect(page.locator("#token-problem")).to_have_text("This is not the token.")
    show_token(page, TOKEN)
    expect(page.locator("#link")).to_have_text("live")
    expect(page.get_by_role("dialog")).to_have_count(0)
    kept = page.evaluate("JSON.stringify([location.href, {...localStorage}, {...sessionStorage}, document.cookie])")
    assert TOKEN not in kept + page.content()
    page.reload()
    expect(page.locator("#link")).to_have_text("live")


def test_a_job_moves_and_a_killed_worker_is_seen_to_die_and_to_come_back(life, page):
    lane = page.locator(".lane")
    expect(lane.locator(".state")).to_have_text("waiting for jobs")
    page.evaluate(FOLLOW)
    job_id = life.stack.submit("image_fast", "a red bicycle")
    expect(page.locator(".job code").first).to_have_text(job_id[:8])
    assert len(set(page.evaluate("percentages")) & {"25", "50", "75"}) >= 2
    os.kill(life.beat().pid, signal.SIGKILL)
    expect(lane.locator(".state")).to_have_text(re.compile("starts again|starting"))
    expect(page.locator("#headline")).to_contain_text("The wan worker is")
    expect(lane.locator(".state")).to_have_text("waiting for jobs")
    expect(lane.locator(".facts")).to_contain_text("Restarts1")


def test_a_server_that_is_gone_is_missed_and_found_again_without_asking(life, page, pods):
    end(life)
    expect(page.locator("#banner")).to_contain_text("The server does not answer.")
    expect(page.locator("#link")).to_have_text("not live")
    pods()
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.get_by_role("dialog")).to_have_count(0)
