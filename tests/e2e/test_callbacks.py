"""What the receivers of both dialects hear: the bodies, their order, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import pytest
from messages import PRESETS, USER
from PIL import Image
from referring import uploads
from runs import Run

pytestmark = pytest.mark.ring2

WEBHOOK = ("x-callback-signature", "webhook-id", "webhook-timestamp", "webhook-signature")


def heard(run: Run) -> dict[str, list[str]]:
    return {label: [seen.status for seen in run.callbacks(label)] for label, job_id in run.jobs.items() if job_id}


def unfenced(body: Mapping[str, Any]) -> dict[str, Any]:
    """A repetition is another claim's word, which its fence says."""
    return {**body, "metadata": {name: value for name, value in body["metadata"].items() if name != "fence"}}


def test_july_hears_processing_then_the_end_and_of_a_batch_the_same_end_again(july: Run):
    for label, statuses in heard(july).items():
        begun = statuses[:1] == ["processing"]
        ends = [unfenced(seen.body) for seen in july.callbacks(label)[begun:]]
        assert begun or ends[0]["status"] == "failed", label
        assert len(ends) == (2 if len(ends[0].get("assets", [])) > 1 else 1), label
        assert ends[0] == ends[-1], label


def test_july_accepts_every_callback(july: Run):
    assert {seen.answer for seen in july.stack.double.callbacks()} == {200}


@pytest.mark.parametrize("job_type", PRESETS)
def test_july_finds_the_files_under_every_name_it_ever_had_for_them(july: Run, job_type: str):
    label = f"type {job_type}"
    body, job_id = july.body(label), july.jobs[label]
    paths = [name.partition("/")[2] for name in july.files(label)]
    assert body["job_id"] == body["jobId"] == job_id
    assert body["assets"] == body["imageUrls"] == paths
    assert body["filePath"] == body["outputUrl"] == paths[0]
    names = {"job_id", "jobId", "status", "assets", "imageUrls", "filePath", "outputUrl", "metadata"}
    assert body.keys() == names | ({"enhancedPrompt"} if PRESETS[job_type].enhance else set())


def test_july_reads_why_a_job_failed_under_both_names(july: Run):
    body = july.body("hostile seven_images")
    assert body.keys() == {"job_id", "jobId", "status", "error_message", "errorMessage", "error_type", "metadata"}
    assert body["error_message"] == body["errorMessage"]
    assert july.row("hostile seven_images")["error_message"] == body["error_message"]


def test_a_legacy_key_goes_in_both_headers_and_a_new_one_never_as_bearer(july: Run, newest: Run):
    for seen in july.stack.double.callbacks():
        assert seen.headers["authorization"] == f"Bearer {seen.headers['apikey']}"
    for seen in newest.stack.double.callbacks():
        assert seen.headers["apikey"].startswith("sb_secret_")
        assert "authorization" not in seen.headers


def test_the_newest_receiver_hears_of_each_job_exactly_once(newest: Run):
    statuses = heard(newest)
    assert statuses.pop("rated adult") == ["failed"]
    assert set(map(tuple, statuses.values())) == {("completed",)}


def test_the_newest_receiver_accepts_only_what_is_signed_and_accepts_all(newest: Run):
    for seen in newest.stack.double.callbacks():
        assert seen.answer == 200
        assert not [name for name in WEBHOOK if not seen.headers.get(name)]


@pytest.mark.parametrize(("label", "kind", "ending"), [("beside it", "image", "png"), ("a clip", "video", "mp4")])
def test_the_newest_receiver_gets_objects_that_describe_themselves(newest: Run, label: str, kind: str, ending: str):
    body, job_id = newest.body(label), newest.jobs[label]
    assert body.keys() == {"job_id", "status", "assets", "metadata"}
    (asset,) = body["assets"]
    place = f"{newest.row(label)['user_id']}/{job_id}/0"
    assert asset.keys() == {"type", "url", "thumbnail_url", "metadata"}
    assert (asset["type"], asset["url"], asset["thumbnail_url"]) == (kind, f"{place}.{ending}", f"{place}.thumb.webp")
    said, whole = asset["metadata"], body["metadata"]
    assert said["format"] == ending
    for name in ("width", "height", "seed", "steps", "guidance_scale", "model"):
        assert said[name] == whole[name], name
    assert said.get("frames") == (17 if kind == "video" else None)


def test_the_newest_receiver_knows_every_asset_and_its_thumbnail(newest: Run):
    rows = newest.stack.double.rows("workspace_assets", job_id=newest.jobs["the victim"])
    stored = newest.files("the victim")
    assert len(rows) == 3
    for row in rows:
        assert f"workspace-temp/{row['temp_storage_path']}" in stored
        with Image.open(BytesIO(stored[f"workspace-temp/{row['thumbnail_path']}"])) as small:
            assert small.format == "WEBP"


def test_files_lie_in_the_folder_of_their_user(july: Run, newest: Run):
    for run in (july, newest):
        owners = {row["id"]: row["user_id"] for row in run.stack.jobs()}
        for entry in run.stack.objects():
            user_id, *inside = entry["path"].split("/")
            if entry["path"] not in uploads():
                assert owners[inside[0]] == user_id
    assert USER in owners.values()
