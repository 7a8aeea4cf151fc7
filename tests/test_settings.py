"""The environment becomes settings: what is missing or wrong is said all at once, and no key is ever printed."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from workers.errors import Misconfigured
from workers.settings import Settings, load_settings
from workers.supervision.environment import worker_environment
from workers.tables import load_models, load_presets, size_scale

REQUIRED = {
    "SUPABASE_URL": "https://project.supabase.co",
    "SUPABASE_SERVICE_KEY": "service-key-for-tests",
    "UPSTASH_REDIS_REST_URL": "https://queue.upstash.io",
    "UPSTASH_REDIS_REST_TOKEN": "queue-token-for-tests",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Nothing but what is required."""
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    monkeypatch.delenv("SUPABASE_SERVICE_ROLE_KEY", raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def refused() -> Misconfigured:
    with pytest.raises(Misconfigured) as refusal:
        load_settings()
    return refusal.value


# The environment


def test_four_variables_are_enough():
    settings = load_settings()
    assert settings.callback_dialect == "paths"
    assert settings.queue_take_from == "tail"
    assert (settings.lease_seconds, settings.drain_seconds) == (45.0, 25.0)
    assert (settings.max_rating, settings.default_rating) == ("sfw", "sfw")
    assert settings.callback_address == "https://project.supabase.co/functions/v1/job-callback"


def test_the_defaults_are_those_of_the_pod():
    settings = load_settings()
    assert settings.model_root == Path("/workspace/models")
    assert settings.outbox == Path("/workspace/outbox")
    assert settings.huggingface == Path("/workspace/models/huggingface_cache")


def test_outbox_and_qwen_follow_the_weights_unless_they_are_set(monkeypatch):
    monkeypatch.setenv("MODEL_ROOT", "/volume/models")
    assert load_settings().outbox == Path("/volume/outbox")
    monkeypatch.setenv("OUTBOX_DIR", "/scratch")
    monkeypatch.setenv("HF_HOME", "/cache")
    assert (load_settings().outbox, load_settings().huggingface) == (Path("/scratch"), Path("/cache"))


@pytest.mark.parametrize("name", ["JOB_CALLBACK_SECRET", "OUTBOX_DIR", "HF_HOME", "LOG_DIR", "CALLBACK_URL"])
def test_an_empty_variable_is_an_unset_one(monkeypatch, name):
    unset = load_settings()
    monkeypatch.setenv(name, "")
    assert load_settings() == unset


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_variable_is_named_with_its_fix_and_code_1(monkeypatch, name):
    monkeypatch.delenv(name)
    refusal = refused()
    assert refusal.exit_code == 1
    (problem,) = refusal.problems
    assert problem.startswith(f"{name} is not set. Set it")


@pytest.mark.parametrize("name", REQUIRED)
def test_an_empty_required_variable_is_a_missing_one(monkeypatch, name):
    monkeypatch.setenv(name, "")
    assert refused().exit_code == 1


def test_all_problems_are_said_at_once(monkeypatch):
    monkeypatch.delenv("SUPABASE_URL")
    monkeypatch.delenv("UPSTASH_REDIS_REST_TOKEN")
    monkeypatch.setenv("CALLBACK_DIALECT", "morse")
    monkeypatch.setenv("LEASE_SECONDS", "0")
    said = [problem.split()[0].rstrip(":") for problem in refused().problems]
    assert sorted(said) == ["CALLBACK_DIALECT", "LEASE_SECONDS", "SUPABASE_URL", "UPSTASH_REDIS_REST_TOKEN"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CALLBACK_DIALECT", "morse"),
        ("QUEUE_TAKE_FROM", "middle"),
        ("DEVICE", "abacus"),
        ("MAX_RATING", "any"),
        ("LEASE_SECONDS", "soon"),
        ("DRAIN_SECONDS", "-1"),
        ("COMMAND_BUDGET", "-5"),
        ("ENHANCE_SECONDS", "600"),
        ("SUPABASE_URL", "project.supabase.co"),
        ("UPSTASH_REDIS_REST_URL", "redis://queue.upstash.io"),
    ],
)
def test_a_wrong_value_is_named_with_code_64(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    refusal = refused()
    assert refusal.exit_code == 64
    assert [problem.split(":")[0] for problem in refusal.problems] == [name]


def test_the_service_key_may_have_its_longer_name(monkeypatch):
    monkeypatch.delenv("SUPABASE_SERVICE_KEY")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "role-key-for-tests")
    assert load_settings().supabase_service_key.get_secret_value() == "role-key-for-tests"


def test_no_key_is_printed_with_the_settings_or_with_a_problem(monkeypatch):
    monkeypatch.setenv("JOB_CALLBACK_SECRET", "callback-secret-for-tests")
    settings = load_settings()
    monkeypatch.setenv("DEVICE", "abacus")
    printed = f"{settings!r} {settings} {settings.model_dump()} {refused()}"
    assert len(settings.secrets) == 3
    assert not [secret for secret in settings.secrets if secret in printed]


def test_settings_stay_as_they_were_read():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().device = "cuda"


def test_an_address_may_end_with_a_slash(monkeypatch):
    monkeypatch.setenv("SUPABASE_URL", "https://project.supabase.co/")
    assert load_settings().supabase_url == "https://project.supabase.co"


def test_a_callback_may_go_elsewhere(monkeypatch):
    monkeypatch.setenv("CALLBACK_URL", "https://platform.example/done")
    assert load_settings().callback_address == "https://platform.example/done"


def test_the_pod_names_the_worker_and_without_one_the_machine_does(monkeypatch):
    assert load_settings().worker_name == socket.gethostname()
    monkeypatch.setenv("RUNPOD_POD_ID", "pod-7")
    assert load_settings().worker_name == "pod-7"


# The environment of worker processes


def test_workers_get_everything_but_the_key_that_rents_machines(monkeypatch):
    monkeypatch.setenv("RUNPOD_API_KEY", "renting-key")
    monkeypatch.setenv("RUNPOD_POD_ID", "pod-7")
    given = worker_environment(2)
    assert "RUNPOD_API_KEY" not in given
    assert given["RUNPOD_POD_ID"] == "pod-7"
    assert given["HF_HUB_OFFLINE"] == "1"


def test_workers_keep_what_python_compiled_even_where_the_image_forbids_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "lighthouse.py").touch()
    subprocess.run([sys.executable, "-c", "import lighthouse"], cwd=tmp_path, env=worker_environment(1), check=True)
    assert list(tmp_path.rglob("lighthouse.*.pyc"))


def test_workers_share_the_cores_unless_an_operator_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert worker_environment(2)["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert worker_environment(2)["OMP_NUM_THREADS"] == "1"


# The files in config/


def written(folder: Path, text: str) -> Path:
    file = folder / "presets.toml"
    file.write_text(text)
    return file


TABLE = """
[video_draft]
kind = "wan"
media = "video"
size = "480*832"
steps = 4
guidance = 5.0
tier = "artistic"
bucket_mib = 50
"""


def test_an_eleventh_job_type_is_one_table(tmp_path):
    presets = load_presets(written(tmp_path, f"{TABLE}frames = 33\n"))
    assert (presets["video_draft"].size, presets["video_draft"].frames) == ((480, 832), 33)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("frames = 83", "less than or equal to 81"),
        ("frames = 80", "must be 4n+1"),
        ("colour = 3", "colour"),
        ('solver = "magic"', "solver"),
        ('sizes = ["0*0"]', "multiples of 16"),
    ],
)
def test_a_preset_that_cannot_work_is_refused_by_name(tmp_path, change, said):
    with pytest.raises(Misconfigured) as refusal:
        load_presets(written(tmp_path, f"{TABLE}{change}\n"))
    assert refusal.value.exit_code == 64
    assert "video_draft" in str(refusal.value)
    assert said in str(refusal.value)


def test_a_file_that_is_no_toml_is_named(tmp_path):
    with pytest.raises(Misconfigured, match=r"presets\.toml cannot be read"):
        load_presets(written(tmp_path, "[half"))


def test_the_shipped_files_can_be_read():
    assert len(load_presets()) == 10
    assert load_models().sdxl.name == "lustify_sdxl"


def test_a_volume_of_small_weights_shrinks_sizes_and_real_ones_do_not(tmp_path):
    assert size_scale(tmp_path, "sdxl") == 1.0
    (tmp_path / "manifest.toml").write_text("[scale]\nsdxl = 0.125\n")
    assert (size_scale(tmp_path, "sdxl"), size_scale(tmp_path, "wan")) == (0.125, 1.0)
