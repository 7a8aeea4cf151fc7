"""One command measures all that is said of speed."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
bench = importlib.import_module("bench.__main__")


@pytest.mark.parametrize("name", bench.BENCHES)
def test_every_bench_knows_the_arguments_that_it_gets(name: str) -> None:
    known = (ROOT / "bench" / f"{name}.py").read_text()
    one = bench.BENCHES[name]
    given = [word for line in (one.card, one.small) for word in shlex.split(line) if word.startswith("--")]
    for option in ("--small", *given, *one.keeps):
        assert f'"{option}"' in known


@pytest.mark.pipelines
def test_what_is_named_is_measured_and_the_command_for_it_alone_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    bench.main(["--small", "qwen"])
    printed = capfd.readouterr().out
    assert "`python -m bench.qwen --small --runs 1 --tokens 16 --cache=" in printed
    assert "| 16 tokens |" in printed


def test_what_fails_is_named_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BENCHES", {"nothing": bench.Bench("Nothing")})
    with pytest.raises(SystemExit, match="failed: nothing"):
        bench.main(["--small"])


def test_an_unknown_name_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["squares"])
    assert "squares: not among sdxl, wan, qwen" in capsys.readouterr().err
