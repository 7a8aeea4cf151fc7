"""What processes count while they talk, and what is read of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector

from workers.ops import events


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Counters of slots, as processes that follow each other have them, and what the supervisor reads of them."""
    monkeypatch.setenv(events.VARIABLE, str(events.prepare(tmp_path, ["wan", "sdxl"])))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)

    def read(name: str, **labels: str) -> float | None:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(tmp_path / events.FOLDER))
        return registry.get_sample_value(name, labels)

    return tmp_path / events.FOLDER, read


def tell(counter: events.EventCounter, name: str, **fields) -> None:
    event = {"event": name, **fields}
    assert counter(None, "info", event) is event


def test_an_heir_goes_on_counting_in_the_same_files(counting):
    folder, read = counting
    for _ in range(3):  # three lives of one slot
        tell(events.EventCounter("wan"), "delivered", type="image_fast", status="completed", denoise_s=2.0)
        events.forget_live(folder, "wan")
    assert read("ourvidz_jobs_total", kind="wan", type="image_fast", status="completed") == 3
    assert read("ourvidz_phase_seconds_sum", kind="wan", type="image_fast", phase="denoise") == 6.0
    assert len(list(folder.glob("counter_*.db"))) == 1


def test_a_new_supervisor_begins_with_empty_files_of_its_own_slots(counting):
    folder, read = counting
    for slot in ("wan", "sdxl"):
        tell(events.EventCounter(slot), "claim lost", phase="denoise")
    events.prepare(folder.parent, ["wan"])
    assert read("ourvidz_lease_losses_total", kind="wan", phase="denoise") is None
    assert read("ourvidz_lease_losses_total", kind="sdxl", phase="denoise") == 1


def test_what_alerts_ask_for_is_there_before_the_first_time(counting):
    _, read = counting
    events.EventCounter("wan", ["image_fast"])
    ends = ("completed", "failed")
    assert {read("ourvidz_jobs_total", kind="wan", type="image_fast", status=each) for each in ends} == {0}
    assert read("ourvidz_dead_total", kind="wan") == 0
    assert {read("ourvidz_callback_failures_total", kind="wan", answer=each) for each in ("denied", "mismatch")} == {0}
    assert read("ourvidz_lease_losses_total", kind="wan", phase="denoise") == 0


def test_every_rule_moves_its_counter(counting):
    _, read = counting
    counter = events.EventCounter("wan")
    for name in events.RULES:
        tell(counter, name)
    for name, moved in events.RULES.items():
        for metric, fixed in moved:
            labels = {label: fixed.get(label, "") for label in events.COUNTERS[metric][1]}
            assert read(f"{metric}_total", kind="wan", **labels), name
        assert read("ourvidz_events_total", kind="wan", event=name) == 1


def test_phases_of_jobs_that_failed_are_not_observed(counting):
    _, read = counting
    tell(events.EventCounter("wan"), "delivered", type="image_fast", status="failed", callback_s=1.0)
    assert read("ourvidz_phase_seconds_count", kind="wan", type="image_fast", phase="callback") is None


def test_a_process_that_nobody_reads_counts_nothing(monkeypatch):
    monkeypatch.delenv(events.VARIABLE, raising=False)
    assert events.counter_for("wan") == []
