"""What operators see of the past: rows of minutes, the last jobs, figures and costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ops_support import entry

from workers.job import Delivery, Outcome
from workers.ops.history import ROW, Archive, Ring, bucketed
from workers.ops.status import job as shown
from workers.ops.status import merged
from workers.ops.table import costs, table
from workers.supervision import ledger
from workers.tables import load_presets

PRESETS = load_presets()
MINUTE = 1_700_000_040 // 60 * 60


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path / "host.ring", rows=10)


def test_a_ring_keeps_the_last_rows_and_writes_over_older_ones(ring, tmp_path):
    for minute in range(25):
        ring.write({"t": MINUTE + minute * 60})
    kept = ring.read(0, MINUTE + 24 * 60)
    assert [row["t"] for row in kept] == [MINUTE + minute * 60 for minute in range(15, 25)]
    assert (tmp_path / "host.ring").stat().st_size <= 10 * ROW


def test_minutes_in_which_nobody_wrote_are_absent(ring):
    for minute in (0, 3, 4):
        ring.write({"t": MINUTE + minute * 60})
    assert [row["t"] for row in ring.read(MINUTE + 60, MINUTE + 9 * 60)] == [MINUTE + 180, MINUTE + 240]


def test_a_torn_row_is_none(ring, tmp_path):
    ring.write({"t": MINUTE})
    ring.write({"t": MINUTE + 60})
    with (tmp_path / "host.ring").open("r+b") as file:
        file.seek(MINUTE // 60 % 10 * ROW + 3)
        file.write(b"\0\0\0")
    assert [row["t"] for row in ring.read(MINUTE, MINUTE + 120)] == [MINUTE + 60]


def test_a_row_that_is_too_long_loses_its_rarest_types_and_never_its_place(ring):
    jobs = {f"a_type_with_a_long_name_{i:03}": [i, 0, 1.0, 1.0, 1.0] for i in range(100)}
    ring.write({"t": MINUTE, "jobs": jobs})
    (row,) = ring.read(MINUTE, MINUTE + 60)
    assert "a_type_with_a_long_name_099" in row["jobs"]
    assert "a_type_with_a_long_name_000" not in row["jobs"]


def test_rows_of_minutes_become_rows_of_hours():
    def minute(number: int, done: int) -> dict:
        return {"t": MINUTE + number * 60, "seconds": 60, "queues": {"wan": [number, None]}, "busy": {"wan": 30.0},
                "idle": 0.5, "commands": 2, "ready": 2 - number,
                "jobs": {"image_fast": [done, 0, 4.0, 1.0, 3.0]}}  # fmt: skip

    (row,) = bucketed([minute(0, 1), minute(1, 2)], 3600, merged)
    assert row["jobs"] == {"image_fast": [3, 0, 8.0, 2.0, 6.0]}
    assert (row["queues"], row["busy"], row["idle"]) == ({"wan": [1, None]}, {"wan": 60.0}, 0.5)
    assert (row["commands"], row["ready"], row["seconds"], row["t"] % 3600) == (4, 1, 120, 0)


def test_a_row_says_up_to_when_its_jobs_count_though_it_begins_late():
    late = {"t": MINUTE + 240, "seconds": 5.0, "until": MINUTE + 300.4, "busy": {}, "jobs": {}}
    assert bucketed([late], 300, merged)[0]["until"] == MINUTE + 300.4


def test_the_last_jobs_outlive_the_supervisor_and_their_number_is_bounded(tmp_path):
    archive = Archive(tmp_path / "host.jobs", most=3)
    for i in range(5):
        archive.add(replace(entry(), job=f"job-{i}"))
    archive.save()
    again = Archive(tmp_path / "host.jobs", most=3)
    assert [each.job for each in again.entries()] == ["job-2", "job-3", "job-4"]
    assert again.find("job-3") == replace(entry(), job="job-3")
    assert again.find("job-0") is None


@pytest.mark.parametrize("text", ["", "null", "{", '[{"job": 1}]', "[1]", '{"a": 1}'])
def test_a_history_that_cannot_be_read_is_an_empty_one(tmp_path, text):
    (tmp_path / "host.jobs").write_text(text)
    assert Archive(tmp_path / "host.jobs").entries() == []


def test_what_is_shown_of_a_job_names_no_user_no_place_and_no_prompt():
    metadata = {"timings": {"denoise": 1.0}, "prompt": "a marigold", "original_prompt": "a marigold", "steps": 4}
    delivery = Delivery(0, "image_fast", "the-user/a-job/0.png", "image/png", (8, 8), 1, 7, 100)
    outcome = Outcome("a-job", "image_fast", "completed", (delivery,), enhanced_prompt="a marigold", metadata=metadata)
    text = json.dumps(shown(ledger.entry_of(outcome, 1)))
    assert "marigold" not in text
    assert "the-user" not in text
    assert '"steps": 4' in text


def test_entries_are_taken_once_in_the_order_in_which_they_were_written(tmp_path):
    note = ledger.writer(tmp_path / "ended", "wan")
    for i in range(3):
        note(replace(entry(), job=f"job-{i}"))
    (tmp_path / "ended" / "0-torn.json").write_text("{")
    assert [each.job for each in ledger.take(tmp_path / "ended")] == ["job-0", "job-1", "job-2"]
    assert list((tmp_path / "ended").iterdir()) == []


def test_entries_that_nobody_takes_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "MOST", 5)
    note = ledger.writer(tmp_path, "wan")
    for _ in range(9):
        note(entry())
    assert len(list(tmp_path.iterdir())) == 5


def test_a_ledger_that_cannot_be_written_harms_nobody(tmp_path):
    (tmp_path / "file").write_text("")
    ledger.writer(tmp_path / "file", "wan")(entry())


def test_the_table_compares_each_type_with_what_was_promised():
    slow = entry(timings={"wait": 400.0, "denoise": 3.0}, facts={"memory": {"card_peak": 50}})
    entries = [slow] * 19 + [entry(status="failed", error_type="failed")]
    row = next(row for row in table(PRESETS, entries, ceiling=40) if row.type == "image_fast")
    assert (row.completed, row.failed, row.success, row.wait, row.card_peak) == (19, 1, 0.95, 400.0, 50)
    assert len(row.misses) == 3
    good = next(row for row in table(PRESETS, [entry()] * 20) if row.type == "image_fast")
    assert (good.total, good.work, good.generation, good.per_step, good.misses) == (7.0, 5.0, 4.0, 1.0, ())


def test_a_job_that_was_at_fault_itself_is_refused_and_not_failed():
    entries = [entry(), *(entry(status="failed", error_type=kind) for kind in ("policy", "invalid", "unreadable"))]
    row = next(row for row in table(PRESETS, entries) if row.type == "image_fast")
    assert (row.completed, row.failed, row.refused, row.success) == (1, 0, 3, 1.0)


def test_costs_add_up_to_the_time_that_was_watched():
    rows = [{"seconds": 3600, "busy": {"sdxl": 1200.0, "wan": 600.0}, "jobs": {"image_fast": [9, 0, 9.0, 9.0, 1000.0]}}]
    found = costs(rows, price=2.0)
    assert found["types"] == {"image_fast": {"seconds": 1000.0, "money": 0.5556}}
    assert (found["wasted"]["seconds"], found["idle"]["seconds"]) == (800.0, 1800.0)
    assert round(sum(part["money"] for part in (*found["types"].values(), found["wasted"], found["idle"])), 2) == 2.0
