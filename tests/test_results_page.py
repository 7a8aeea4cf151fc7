"""What the double leaves of jobs: a folder that opens from disk."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from double import service

from workers.local.stack import LocalStack

USER = "11111111-1111-4111-8111-111111111111"


def deliver(stack: LocalStack, job_type: str, prompt: str, *files: str) -> str:
    """A job done by hand, as a worker would."""
    job_id = stack.submit(job_type, prompt)
    assets = [f"{USER}/{job_id}/{name}" for name in files]
    with service(stack) as http:
        for asset in assets:
            kind = "video/mp4" if asset.endswith("mp4") else "image/png"
            place = f"/storage/v1/object/{job_type}/{asset}"
            http.post(place, content=asset.encode(), headers={"Content-Type": kind}).raise_for_status()
        body = {"job_id": job_id, "status": "completed", "assets": assets, "metadata": {"timings": {"denoise": 1.5}}}
        http.post("/functions/v1/job-callback", json=body).raise_for_status()
    return job_id


def test_the_results_folder_opens_from_disk(stack: LocalStack, tmp_path: Path) -> None:
    deliver(stack, "sdxl_image_fast", "</script><b>a red bicycle</b>", "0.png", "1.png")
    page = stack.write_results(tmp_path / "results").read_text()
    data = re.search(r"const EMBEDDED = (.*);\n", page)
    assert data is not None
    assert "</script><b>" not in page
    (result,) = json.loads(data.group(1))
    assert [(tmp_path / "results" / file["src"]).exists() for file in result["files"]] == [True, True]
    assert "http" not in page.replace("http-equiv", "")


def test_a_job_is_waited_for_with_a_limit(stack: LocalStack) -> None:
    assert stack.wait_for(deliver(stack, "video_fast", "a red bicycle", "0.mp4"))["status"] == "completed"
    with pytest.raises(TimeoutError):
        stack.wait_for(stack.submit("video_fast", "a red bicycle"), timeout=0.05)
