"""Jobs with references, from a signed address or a path to a delivered result, or to a sentence that says why not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from referring import ACCEPTED, REFUSED, hashes
from runs import Run

pytestmark = pytest.mark.ring2

USED = {
    "a beginning": {"pipeline": "img2img", "reference_type": "composition", "denoise_strength": 0.3},
    "a copy": {"exact_copy_mode": True, "denoise_strength": 0.05, "guidance_scale": 1.0, "negative_prompt": ""},
    "a style": {"reference_type": "style", "reference_strength": 0.5},
    "a character": {"reference_type": "character", "reference_strength": 0.5},
    "the same character": {"reference_type": "character", "reference_strength": 0.5},
    "a video model's beginning": {"pipeline": "img2img", "denoise_strength": 0.2, "resize_policy": "center_crop"},
    "a clip": {"pipeline": "video", "reference_type": "composition", "denoise_strength": 0.5, "frames": 5},
    "frames": {"pipeline": "video", "reference_mode": "both"},
    "a subject": {"reference_mode": "single", "reference_type": "character", "reference_strength": 1.0},
}
"""What a job was for -> what its callback says of how the reference was used."""


def told(july: Run, label: str) -> dict[str, Any]:
    body = july.body(f"reference {label}")
    assert body["status"] == "completed", body.get("error_message")
    return body["metadata"]


def test_every_use_of_a_reference_is_in_the_table():
    assert USED.keys() == ACCEPTED.keys()


@pytest.mark.parametrize("label", ACCEPTED)
def test_a_reference_from_the_users_own_folder_is_used_as_asked(july: Run, label: str):
    said = told(july, label)
    assert USED[label].items() <= said.items()
    assert said["seed"] == 3
    assert len(july.files(f"reference {label}")) == 1


@pytest.mark.parametrize("label", ACCEPTED)
def test_the_callback_knows_references_by_their_hash_alone(july: Run, label: str):
    said = told(july, label)
    assert set(said["reference_sha256"].values()) == hashes(label)
    assert "token=" not in json.dumps(said)
    assert "picture.png" not in json.dumps(said)


@pytest.mark.parametrize("address", REFUSED)
def test_a_reference_that_cannot_be_used_is_a_failed_job_with_a_sentence(july: Run, address: str):
    row = july.row(f"reference {address}")
    assert (row["status"], row["error_message"]) == ("failed", REFUSED[address][0])
    assert not july.files(f"reference {address}")


def test_nothing_is_left_in_the_log_of_where_references_lie(july: Run):
    for word in ("token=", "picture.png", "elsewhere.example", "planted"):
        assert word not in july.traces


def test_what_was_seen_of_a_character_is_kept_on_the_volume(july: Run, models):
    (kept,) = (models.parent / "characters").rglob("*.safetensors")
    assert kept.stat().st_size < 1_000_000
