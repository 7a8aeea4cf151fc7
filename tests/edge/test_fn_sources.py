"""The functions' sources: typed, linted and formatted; each runs without any package."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from workers.local.edge.deno import CACHE, LITE, deno
from workers.local.edge.stack import FUNCTIONS, NAMES

SOURCES = sorted(FUNCTIONS.rglob("*.ts"))


def run(*arguments: str, cwd: Path = FUNCTIONS.parent) -> None:
    env = os.environ | {"DENO_DIR": str(CACHE), "NO_COLOR": "1"}
    done = subprocess.run([deno(), *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [["fmt", "--check"], ["lint"]], ids=["fmt", "lint"])
@pytest.mark.parametrize("folder", [FUNCTIONS.parent, LITE.parent], ids=["functions", "lite"])
def test_sources_are_formatted_and_linted(folder, arguments):
    run(*arguments, cwd=folder)


def test_sources_are_typed():
    run("check", "--cached-only", *(f"functions/{name}/index.ts" for name in NAMES))
    run("check", "--cached-only", LITE.name, cwd=LITE.parent)


def test_each_folder_is_a_function():
    assert {path.parent.name for path in FUNCTIONS.glob("*/index.ts")} == set(NAMES)


def test_functions_import_files_of_their_own_only():
    for source in SOURCES:
        for line in source.read_text().splitlines():
            if line.startswith(("import ", "} from")):
                assert '"./' in line or '"../_shared/' in line, f"{source.name}: {line}"
