"""Settings and volumes for the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import structlog
from terminal import run

from workers.cli.queues import QueueView
from workers.kinds import open_queue
from workers.local.stack import LocalStack
from workers.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _logs_as_before():
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def no_settings(monkeypatch, tmp_path):
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    monkeypatch.setenv("MODEL_ROOT", str(tmp_path / "models"))
    monkeypatch.setenv("OURVIDZ_RUN_DIR", str(tmp_path / "run"))


@pytest.fixture
def at_stack(no_settings, stack: LocalStack, monkeypatch) -> LocalStack:
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)
    return stack


@pytest.fixture
def settings(at_stack) -> Settings:
    return load_settings()


@pytest.fixture
def view(settings):
    """The queue of pictures as an operator sees it."""
    view = QueueView("sdxl", settings)
    yield view
    view.close()


@pytest.fixture
def worker(settings):
    """The same queue as a worker has it."""
    queue = open_queue("sdxl", settings)
    yield queue
    queue.close()


@pytest.fixture(scope="session")
def small_volume(tmp_path_factory) -> Path:
    """What `models tiny` writes: only read it."""
    folder = tmp_path_factory.mktemp("volume") / "models"
    code, _, err = run("-m", "workers", "models", "tiny", str(folder))
    assert code == 0, err
    return folder


@pytest.fixture
def small_copy(small_volume, tmp_path) -> Path:
    return Path(shutil.copytree(small_volume, tmp_path / "copy"))
