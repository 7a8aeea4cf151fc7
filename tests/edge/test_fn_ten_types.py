"""One job of every type: a user's browser, the functions, the workers on tiny checkpoints, storage, and back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fnrig import Browser, browsing
from PIL import Image
from support import post

from workers.cli.small import write_volume
from workers.local.edge.stack import EdgeStack
from workers.tables import load_presets

sys.path.append(str(Path(__file__).parents[1] / "e2e"))
from system import ROOT, System

PRESETS = load_presets()
QUICK = {"sample_steps": 2, "num_inference_steps": 2, "frame_num": 5, "num_images": 1}
LIMIT = 240.0
SHAPES = "a red circle on a blue background"
"""What the toy that writes better words knows of."""

pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Ended:
    """All that came of it. `rows` by job type."""

    edge: EdgeStack
    browser: Browser
    rows: dict[str, dict[str, Any]]
    batch: dict[str, Any]
    taken_back: dict[str, Any]
    enhanced: dict[str, Any]
    exit_code: int
    output: str

    def files(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        table = "videos" if row["job_type"].startswith("video") else "images"
        found = self.edge.rows(table, job_id=row["id"])
        return sorted(found, key=lambda each: each.get("image_index") or 0)

    def place(self, job_type: str) -> tuple[str, str]:
        (made,) = self.files(self.rows[job_type])
        return job_type, made.get("image_url") or made["video_url"]


@pytest.fixture(scope="module")
def ended(edge: EdgeStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    models, folder = tmp_path_factory.mktemp("volume") / "models", tmp_path_factory.mktemp("pod")
    write_volume(models)
    for queue in ("sdxl_queue", "wan_queue"):
        edge.redis.send(f"DEL {queue}")
    edge.sql("update public.jobs set status = 'cancelled' where status in ('queued', 'processing')")
    env = edge.env | {"MODEL_ROOT": str(models), "DEVICE": "cpu", "WATERMARK": "false"}
    with browsing(edge) as browser, System(folder, str(ROOT / "dual_orchestrator.py"), env=env) as system:
        taken_back = browser.queued("image_high")
        browser.call("cancel-job", {"job_id": taken_back["id"]}).raise_for_status()
        jobs = {name: browser.queued(name, config=QUICK | {"seed": 5})["id"] for name in PRESETS}
        batch = browser.queued("sdxl_image_fast", config=QUICK | {"num_images": 3})
        rows = {name: edge.wait_for(job_id, LIMIT) for name, job_id in jobs.items()}
        batch = edge.wait_for(batch["id"], LIMIT)
        with edge.function("enhance-prompt", ENHANCE_WAIT_SECONDS="120") as patient:
            headers = {"Authorization": browser.http.headers["authorization"]}
            enhanced = post(patient, json={"prompt": SHAPES}, headers=headers, timeout=LIMIT).json()
        system.ask_to_stop()
        code = system.ends()
        yield Ended(edge, browser, rows, batch, edge.job(taken_back["id"]), enhanced, code, system.output)


def test_all_ten_types_arrive(ended):
    assert {name: row["status"] for name, row in ended.rows.items()} == dict.fromkeys(PRESETS, "completed")
    assert len(ended.rows) == 10


@pytest.mark.parametrize("job_type", PRESETS)
def test_each_file_lies_in_its_users_folder_and_is_what_it_should_be(ended, job_type):
    bucket, path = ended.place(job_type)
    row = ended.rows[job_type]
    assert path.startswith(f"{ended.browser.user}/{row['id']}/0.")
    content = ended.edge.file(bucket, path).read_bytes()
    if PRESETS[job_type].media == "video":
        assert content[4:8] == b"ftyp"
    else:
        with Image.open(ended.edge.file(bucket, path)) as picture:
            assert picture.size[0] % 16 == 0
    assert row["metadata"]["seed"] == 5
    assert row["credits"] > 0


def test_the_user_sees_them_and_signs_exactly_them(ended):
    for job_type in PRESETS:
        signed = ended.browser.signs(*ended.place(job_type))
        assert signed.status_code == 200
        link = signed.json().get("signedURL") or signed.json()["signedUrl"]
        address = ended.edge.supabase.url + "/storage/v1" + link.removeprefix("/storage/v1")
        fetched = httpx.get(address, timeout=30, verify=False)
        assert fetched.content == ended.edge.file(*ended.place(job_type)).read_bytes()


def test_another_user_signs_none_of_them_and_sees_no_row(ended):
    with browsing(ended.edge) as other:
        for job_type in PRESETS:
            assert other.signs(*ended.place(job_type)).status_code == 400
        for table in ("jobs", "images", "videos"):
            assert other.http.get(f"/rest/v1/{table}", params={"user_id": f"eq.{ended.browser.user}"}).json() == []


def test_the_user_sees_the_rows_through_the_policies(ended):
    rows = ended.browser.http.get("/rest/v1/jobs", params={"select": "id,status"}).json()
    assert {row["id"] for row in ended.rows.values()} <= {row["id"] for row in rows}


def test_a_batch_fills_its_rows_in_order(ended):
    paths = [image["image_url"] for image in ended.files(ended.batch)]
    folder = f"{ended.browser.user}/{ended.batch['id']}"
    assert paths == [f"{folder}/{index}.png" for index in range(3)]


def test_enhanced_types_say_their_better_words(ended):
    for job_type in ("image7b_fast_enhanced", "video7b_high_enhanced"):
        assert ended.files(ended.rows[job_type])[0]["enhanced_prompt"]


def test_a_job_that_was_taken_back_was_never_made(ended):
    assert ended.taken_back["status"] == "cancelled"
    assert ended.taken_back["id"] not in [body.get("job_id") for body, _ in ended.edge.gate.seen]


def test_better_words_are_written_while_the_user_waits(ended):
    assert (ended.enhanced["success"], ended.enhanced["enhanced"]) == (True, True)
    assert ended.enhanced["original_prompt"] == SHAPES
    row = ended.edge.job(ended.enhanced["job_id"])
    assert (row["status"], row["metadata"]["enhancement"]) == ("completed", "done")
    better = ended.enhanced["prompt"]
    assert better == row["metadata"]["enhanced_prompt"]
    assert len(better) >= 2 * len(SHAPES)
    assert {"red", "circle", "blue", "background"} <= set(better.replace(",", " ").replace(".", " ").lower().split())


def test_every_callback_was_understood(ended):
    ours = {row["id"] for row in ended.rows.values()}
    assert {status for body, status in ended.edge.gate.seen if body.get("job_id") in ours} == {200}


def test_the_workers_end_cleanly(ended):
    assert ended.exit_code == 0, ended.output
