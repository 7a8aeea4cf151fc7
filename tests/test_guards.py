"""The gates as a process opens them: whatever is configured must be there and right."""

from __future__ import annotations

import hashlib

import pytest

from tests.onnx_models import write_manifest
from workers.errors import Misconfigured
from workers.safety.audit import records
from workers.safety.guards import open_guards
from workers.safety.persons import key
from workers.settings import Settings
from workers.testing.fakes import no_objections

REQUIRED = ("supabase_url", "supabase_service_key", "upstash_redis_rest_url", "upstash_redis_rest_token")


def settings(folder, **values) -> Settings:
    given = dict.fromkeys(REQUIRED, "https://nowhere.invalid") | {"model_root": folder / "models"}
    return Settings(**given | values)


def refused(at: Settings) -> Misconfigured:
    with pytest.raises(Misconfigured) as error:
        open_guards("wan@pod", at, no_objections)
    assert error.value.exit_code == 73
    return error.value


def persons(folder, text: str, sha256: str | None = None) -> Settings:
    (folder / "models").mkdir()
    (folder / "models" / "persons.txt").write_text(text)
    right = hashlib.sha256(text.encode()).hexdigest()
    table = {"file": "persons.txt", "sha256": sha256 or right}
    return settings(folder, safety_manifest=write_manifest(folder, persons=table))


def test_a_staged_list_of_persons_is_used(tmp_path):
    gate = open_guards("wan@pod", persons(tmp_path, key("Quilla Vondermoot")), no_objections).gate
    assert gate.persons == {key("Quilla Vondermoot")}


@pytest.mark.parametrize(("text", "sha256"), [("a", "0" * 64), ("Quilla Vondermoot", None)])
def test_a_list_of_persons_that_was_altered_or_names_somebody_ends_the_worker(tmp_path, text, sha256):
    refused(persons(tmp_path, text, sha256))


def test_a_list_of_persons_that_is_missing_ends_the_worker(tmp_path):
    table = {"file": "persons.txt", "sha256": "0" * 64}
    refused(settings(tmp_path, safety_manifest=write_manifest(tmp_path, persons=table)))


@pytest.mark.parametrize("table", ["off", "explicit"])
def test_a_manifest_that_says_anything_unknown_ends_the_worker(tmp_path, table):
    refused(settings(tmp_path, safety_manifest=write_manifest(tmp_path, **{table: {}})))


def test_an_audit_that_cannot_be_written_ends_the_worker(tmp_path):
    (tmp_path / "file").touch()
    assert "AUDIT_DIR" in str(refused(settings(tmp_path, audit_dir=tmp_path / "file" / "audit")))


def test_each_start_is_a_line_of_the_audit(tmp_path):
    for _ in range(2):
        open_guards("wan@pod", settings(tmp_path), no_objections)
    assert [line["event"] for line in records(tmp_path / "audit")] == ["started", "started"]


def test_a_registry_that_was_lost_is_there_again_after_the_next_start(tmp_path):
    guards = open_guards("wan@pod", settings(tmp_path), no_objections)
    guards.inspection.audit.write("takedown", job="j", blocked=["0123456789abcdef"])
    guards.inspection.registry.path.unlink()
    again = open_guards("wan@pod", settings(tmp_path), no_objections)
    assert again.inspection.registry.block_list().match(["0123456789abcdef"]) == "j"
