"""The acceptance board: jobs of each type are measured, judged, compared and written down."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ops_support import entry
from pod import Pod
from support import post

from workers.local.stack import LocalStack
from workers.ops.baseline import Baseline, judged
from workers.ops.report_files import markdown, plot, write
from workers.tables import load_presets

ROOT = Path(__file__).resolve().parent.parent
TWO = {name: preset for name, preset in load_presets().items() if name in ("image_fast", "video_fast")}


def of_type(job_type: str, count: int = 20, **timings: float) -> list:
    seconds = {"wait": 1.0, "denoise": 3.0, "encode": 0.5, "upload": 0.5} | timings
    return [entry(job_type, timings=seconds, facts={"steps": 4, "memory": {"card_peak": 4 * 2**30}})] * count


def measured(*entries: list, earlier: Baseline | None = None, ceiling: int = 0) -> Baseline:
    together = [each for some in entries for each in some]
    return judged(together, TWO, jobs=20, host="pod", ceiling=ceiling, earlier=earlier and earlier.as_json())


def both(**timings: float) -> list:
    return of_type("image_fast", **timings) + of_type("video_fast", **timings)


def test_a_deployment_that_keeps_its_promises_is_good():
    assert measured(both()).good


def test_each_promise_that_is_not_kept_is_named_with_its_type():
    late = of_type("image_fast", wait=301.0)
    lost = [*of_type("video_fast", count=19), entry("video_fast", status="failed", error_type="failed")]
    found = measured(late, lost, ceiling=3 * 2**30)
    assert not found.good
    assert [miss.partition(":")[0] for miss in found.misses] == ["image_fast", "image_fast", "video_fast", "video_fast"]


def test_what_became_a_tenth_slower_is_flagged_and_what_became_faster_is_not():
    before = measured(both())
    now = measured(of_type("image_fast", denoise=3.5), of_type("video_fast", denoise=2.0), earlier=before)
    assert now.regressions == (
        "image_fast: work takes 4.50 s, 4.00 s before",
        "image_fast: generation takes 3.50 s, 3.00 s before",
    )
    assert now.against == before.at


def test_milliseconds_are_noise():
    before = measured(both(upload=0.01))
    assert measured(both(upload=0.02), earlier=before).good


def test_more_memory_and_fewer_completed_jobs_are_regressions():
    before = measured(both())
    hungry = [entry("image_fast", facts={"memory": {"card_peak": 8 * 2**30}})] * 99
    hungry.append(entry("image_fast", status="failed", error_type="failed"))
    said = measured(hungry, of_type("video_fast"), earlier=before).regressions
    assert any("8.0 GiB of the card, 4.0 before" in sentence for sentence in said)
    assert any("99% completed, 100% before" in sentence for sentence in said)


def test_a_type_that_the_earlier_baseline_does_not_know_is_no_regression():
    before = judged(of_type("image_fast"), {"image_fast": TWO["image_fast"]}, jobs=20, host="pod")
    assert measured(both(), earlier=before).good


def test_the_table_has_a_row_for_each_type_and_says_what_is_wrong():
    text = markdown(measured(of_type("image_fast"), earlier=measured(both(denoise=0.1))))
    assert "| image_fast | 20/20 | 5.00 | 1.00 | 0.00 | 0.00 | 3.00 | 3.00 | 0.750 |" in text
    assert "| video_fast | 0/0 |" in text
    assert "- image_fast: generation takes 3.00 s, 0.10 s before" in text


def test_the_plot_is_an_image_with_bars_as_long_as_the_phases():
    tree = ElementTree.fromstring(plot(measured(both()).figures))
    bars = [float(r.get("width")) for r in tree.iter("{http://www.w3.org/2000/svg}rect") if r.get("height") == "20"]
    assert bars[0] == pytest.approx(6 * bars[1], rel=0.01)


def test_what_is_written_can_be_compared_with_later(tmp_path):
    paths = write(measured(both()), tmp_path / "new")
    assert [path.name for path in paths] == ["baseline.md", "baseline.json", "baseline.svg"]
    earlier = json.loads(paths[1].read_text())
    assert judged(both(), TWO, jobs=1, host="pod", earlier=earlier).good


@pytest.mark.ring2
def test_jobs_are_measured_through_the_true_queue_and_leave_nothing(
    pod: Callable[..., Pod], stack: LocalStack, tmp_path: Path
) -> None:
    worker = pod("wan_worker", evil_step_seconds=0.05)
    worker.wait_for("ready")
    types = [word for name in TWO for word in ("--type", name)]
    command = [sys.executable, "-m", "workers", "baseline", "--jobs", "1", *types, "--folder", str(tmp_path / "b")]
    environment = {**worker.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr + worker.text()
    figures = json.loads((tmp_path / "b" / "baseline.json").read_text())["figures"]
    assert [(row["type"], row["completed"]) for row in figures] == [(name, 1) for name in TWO]
    assert all(row["generation"] >= 0.2 and row["bytes"] > 0 for row in figures)
    assert "round 1 of 1: 2 of 2 arrived" in done.stderr
    worker.wait_until(lambda: not stack.objects())
    worker.wait_until(lambda: remains(stack) == [0, 0, 0])


def remains(stack: LocalStack) -> list[int]:
    """How many jobs wait, are in somebody's hands, and were given up."""
    asked = (("LLEN", "wan_queue"), ("HLEN", "wan_queue:inflight"), ("LLEN", "wan_queue:dead"))
    headers = {"Authorization": f"Bearer {stack.env['UPSTASH_REDIS_REST_TOKEN']}"}
    return [post(stack.gateway.url, json=command, headers=headers).json()["result"] for command in asked]
