"""The whole system, run twice for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import runs
from runs import Run

from workers.cli.small import write_volume
from workers.local.stack import LocalStack


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume that workers may write on."""
    folder = tmp_path_factory.mktemp("volume") / "models"
    write_volume(folder)
    return folder


@pytest.fixture(scope="session")
def july(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with LocalStack() as stack:
        yield runs.july(stack, models, tmp_path_factory.mktemp("july"))


@pytest.fixture(scope="session")
def newest(july: Run, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with LocalStack(dialect="objects", key_kind="secret") as stack:
        yield runs.newest(stack, models, tmp_path_factory.mktemp("newest"))
