"""The page in a real Chromium, which is watched: what it complains of, and whom it asks, fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from stage import Stage, staged

from workers.local.stack import LocalStack

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LIMIT_MS = 60_000
REFUSED = "Failed to load resource"
"""What a browser says of itself where a server refuses or is gone."""


@dataclass
class Watched:
    """Tabs of one test. `refusals` says whether answers that are no success are meant to happen."""

    browser: Browser
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    refusals: bool = False

    def open(self, address: str, **options: object) -> Page:
        """A tab of a browser that knows nothing of others."""
        page = self.browser.new_context(**options).new_page()  # type: ignore[arg-type]
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._note(request.url))
        page.goto(address)
        return page

    def close(self) -> None:
        for context in self.browser.contexts:
            context.close()

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning") and not (self.refusals and REFUSED in said.text):
            self.complaints.append(said.text)

    def _note(self, url: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob"):
            self.hosts.add(urlsplit(url).hostname or url)


def chromium_here() -> str:
    """Raises `FileNotFoundError` with what to do."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise FileNotFoundError("There is no Chromium. Run tests/browser/install.sh, or set CHROMIUM to a browser.")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=LIMIT_MS)
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium_here(), args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Watched]:
    watched = Watched(browser)
    yield watched
    watched.close()
    assert watched.complaints == []
    assert watched.hosts <= {"127.0.0.1"}


@pytest.fixture(scope="session")
def _session_stage(_session_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage"), _session_stack) as stage:
        yield stage


@pytest.fixture
def stage(_session_stage: Stage) -> Stage:
    """Both workers wait for jobs; there is a day of history, and nothing in the queues."""
    _session_stage.reset()
    return _session_stage


@pytest.fixture
def own_stage(stack: LocalStack, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose jobs no other test sees."""
    with staged(tmp_path, stack) as stage:
        yield stage


@pytest.fixture
def look(stage: Stage, tabs: Watched) -> Callable[..., Page]:
    """Opens the page, and returns it once it shows what is true."""

    def opened(**options: object) -> Page:
        page = tabs.open(stage.address, **options)
        page.set_default_timeout(LIMIT_MS)
        expect(page.locator("#link")).to_have_text("live")
        expect(page.locator(".lane")).to_have_count(2)
        return page

    return opened
