"""`demo --supabase` without what it runs on: a sentence that says what to install, before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from workers.cli.app import app
from workers.local import postgres
from workers.local.edge import deno


@pytest.mark.parametrize(
    ("absent", "says"),
    [
        ((deno, "deno"), "no Deno: install requirements-edge.txt"),
        ((deno, "CACHE"), "no Supabase Lite: install requirements-edge.txt"),
        ((postgres, "find_programs"), "no PostgreSQL: install requirements-edge.txt"),
    ],
    ids=["deno", "lite", "postgres"],
)
def test_the_demo_says_what_is_missing(monkeypatch, tmp_path, absent, says):
    module, name = absent
    monkeypatch.setattr("workers.cli.demo._end_on_signals", lambda: None)
    if name == "CACHE":
        monkeypatch.setattr(module, name, Path(tmp_path))
    elif name == "deno":
        monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setattr(module, name, lambda: None)
    result = CliRunner().invoke(app, ["demo", "--supabase", "--once", "--folder", str(tmp_path / "demo")])
    assert result.exit_code != 0
    assert says in " ".join(result.output.split())
    assert not (tmp_path / "demo").exists()
