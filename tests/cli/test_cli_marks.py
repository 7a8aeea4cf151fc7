"""`check` looks at what files are marked with, before a worker needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.signer import TOKEN, SigningServer, running_signer
from workers.cli.checks import Finding, findings, marks
from workers.known import known_settings
from workers.provenance import watermark_net
from workers.provenance.chain import MARK_KEY, keys_in

pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SigningServer]:
    with running_signer(tmp_path / "elsewhere") as server:
        monkeypatch.setenv("C2PA_SIGNER_URL", server.url)
        monkeypatch.setenv("C2PA_SIGNER_TOKEN", TOKEN)
        yield server


def found() -> list[Finding]:
    return list(findings(marks, known_settings()))


def problems() -> list[str]:
    return [finding.text for finding in found() if finding.state == "problem"]


def test_a_new_volume_has_no_keys_yet_and_looking_makes_none(tmp_path):
    assert [finding.state for finding in found()] == ["note", "note"]
    assert not (tmp_path / "provenance").exists()


def test_keys_that_are_there_should_be_copied(tmp_path):
    keys_in(tmp_path / "provenance")
    assert "keep a copy" in found()[0].text


def test_keys_that_are_not_whole_are_a_problem(tmp_path):
    keys_in(tmp_path / "provenance")
    (tmp_path / "provenance" / MARK_KEY).unlink()
    assert "PROVENANCE_DIR" in problems()[0]


def test_missing_weights_are_a_problem_only_where_they_are_needed(monkeypatch):
    monkeypatch.setattr(watermark_net, "PACKAGE", "no-such-package")
    assert "requirements-weights.txt" in problems()[0]
    monkeypatch.setenv("WATERMARK", "false")
    assert not problems()


def test_a_signer_elsewhere_is_asked_how_it_signs(server):
    assert found()[-1] == Finding("ok", "files are signed elsewhere, by es256")


@pytest.mark.parametrize("status", [503, 401])
def test_a_signer_that_does_not_answer_is_a_problem_without_its_address_or_token(server, status):
    server.status = status
    (problem,) = problems()
    assert str(status) in problem
    assert server.url not in problem
    assert TOKEN not in problem
