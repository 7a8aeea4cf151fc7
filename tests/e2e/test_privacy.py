"""What the workers print, leave in files and tell the network: never a prompt, a key or a signed address."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from runs import PLANTED, Run

pytestmark = pytest.mark.ring2

PROMPTS = (PLANTED, "bicycle", "lighthouse", "anatomy", "masterpiece", "cinematography", "色调艳丽")
"""Words of the users' prompts, of those that are added, and of negative prompts."""
ADDRESSES = ("token=", "/object/sign/", "Bearer", "eyJ", "sb_secret_")


@pytest.mark.parametrize("word", [*PROMPTS, *ADDRESSES])
def test_no_prompt_and_no_signed_address_is_left_anywhere(july: Run, newest: Run, word: str):
    for run in (july, newest):
        assert word.lower() not in run.traces.lower()


@pytest.mark.parametrize("name", ["SUPABASE_SERVICE_KEY", "UPSTASH_REDIS_REST_TOKEN", "JOB_CALLBACK_SECRET"])
def test_no_key_is_left_anywhere(july: Run, newest: Run, name: str):
    for run in (july, newest):
        assert run.stack.env[name] not in run.traces


def test_the_planted_words_were_there_to_be_found(july: Run):
    """Where they may be: in the callbacks."""
    told = json.dumps([seen.body for seen in july.stack.double.callbacks()], ensure_ascii=False)
    assert not [word for word in PROMPTS if word not in told]


def test_every_line_of_output_is_an_event_with_a_time_and_a_level(july: Run, newest: Run):
    for run in (july, newest):
        for line in run.system.output.splitlines():
            assert {"event", "level", "timestamp"} <= json.loads(line).keys()


def test_a_job_can_be_followed_through_the_log_by_its_id(july: Run):
    said = map(json.loads, july.system.output.splitlines())
    ours = [event for event in said if event.get("job") == july.jobs["type video7b_high_enhanced"]]
    assert [event["event"] for event in ours] == ["claimed", "made", "delivered"]
    assert {"enhance_s", "encode_text_s", "denoise_s", "decode_s", "encode_s", "upload_s"} <= ours[-1].keys()


def test_no_process_of_ours_spoke_to_another_machine(july: Run, newest: Run):
    for run in (july, newest):
        assert not run.system.notes.exists(), run.system.notes.read_text()


def test_the_guard_over_the_network_is_awake(july: Run, tmp_path):
    notes = tmp_path / "notes"
    code = "import socket; socket.create_connection(('192.0.2.1', 9), 1)"
    env = july.system.env | {"OFFLINE_NOTES": str(notes)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert b"no network in tests" in done.stderr
    assert "192.0.2.1" in notes.read_text()
