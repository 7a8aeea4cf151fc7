"""The command line: quick to answer, complete in its complaints, silent about secrets."""

from __future__ import annotations

import resource
from dataclasses import replace
from types import SimpleNamespace

import pytest
from terminal import VARIABLES, call, call_json, run

from workers.job import Turbo
from workers.tables import load_presets

COMMANDS = ("demo", "run", "supervise", "check", "submit", "status", "replay", "dead", "models")


def problems() -> str:
    found = call_json("check")["findings"]
    return "\n".join(finding["text"] for finding in found if finding["state"] == "problem")


def work_of_children() -> float:
    """Seconds of a core, which are the same on a machine that does other things too."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_names_every_command_and_answers_in_half_a_second():
    seconds = []
    for _ in range(3):
        before = work_of_children()
        code, out, _ = run("-m", "workers", "--help")
        seconds.append(work_of_children() - before)
        assert code == 0
        assert all(command in out for command in COMMANDS)
    assert min(seconds) < 0.5


def test_help_imports_nothing_heavy():
    _, _, imported = run("-X", "importtime", "-m", "workers", "submit", "--help")
    assert "workers.cli.submit" in imported
    modules = {line.split()[-1] for line in imported.splitlines()}
    assert not {"torch", "numpy", "httpx", "upstash_redis", "workers.settings"} & modules


@pytest.mark.parametrize("command", [["status"], ["dead", "list"], ["submit", "image_fast", "a red bicycle"]])
def test_missing_settings_are_named_all_at_once_with_exit_code_1(no_settings, command):
    result = call(*command)
    assert result.exit_code == 1
    assert all(f"{name} is not set" in result.stderr for name in VARIABLES)


def test_a_wrong_value_ends_with_exit_code_64(at_stack, monkeypatch):
    monkeypatch.setenv("LEASE_SECONDS", "soon")
    result = call("status")
    assert result.exit_code == 64
    assert "LEASE_SECONDS" in result.stderr


def test_an_unreachable_queue_is_a_sentence_and_not_a_trace(at_stack, monkeypatch):
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", "http://127.0.0.1:9")
    result = call("status")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: The queue did not answer")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [["run", "piano"], ["supervise", "--only", "piano"]])
def test_an_unknown_kind_is_wrong_usage_and_the_kinds_are_named(arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert "sdxl, wan" in result.stderr


@pytest.mark.parametrize("script", ["sdxl_worker.py", "wan_worker.py", "dual_orchestrator.py"])
def test_each_script_without_settings_names_them_all_and_ends_with_1(script, tmp_path):
    code, _, err = run(script, env={"MODEL_ROOT": str(tmp_path)})
    assert code == 1
    assert all(name in err for name in VARIABLES)
    assert "Traceback" not in err


def test_the_orchestrator_takes_only_kinds_that_exist():
    code, _, err = run("dual_orchestrator.py", "--only", "piano")
    assert code == 2
    assert "sdxl, wan" in err


def test_check_lists_every_problem_of_an_empty_machine_at_once():
    code, out, _ = run("-m", "workers", "check", env={"MODEL_ROOT": "/nowhere", "DRAIN_SECONDS": "-1"})
    assert code == 1
    assert all(f"{name} is not set" in out for name in VARIABLES)
    assert "DRAIN_SECONDS" in out
    for part in ("lustifySDXL", "Wan2.1_VAE.pth", "umt5-xxl", "Qwen2.5-7B"):
        assert part in out


def test_check_announces_the_conversion_of_the_video_model_or_that_it_cannot_be_made(
    no_settings, small_volume, monkeypatch
):
    monkeypatch.setenv("MODEL_ROOT", str(small_volume))
    assert "wan is converted at its first start" in call("check").stdout
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "more are needed. Make room." in problems()


def test_check_misses_the_curve_of_a_model_whose_work_is_kept_by_magnitude(no_settings, small_volume, monkeypatch):
    monkeypatch.setenv("MODEL_ROOT", str(small_volume))
    turbo = Turbo(on=True, reuse=0.12, reuse_by="magnitude")
    presets = {"video_fast": replace(load_presets()["video_fast"], turbo=turbo)}
    monkeypatch.setattr("workers.cli.checks.load_presets", lambda: presets)
    assert "[video_fast.turbo] reuse_by" in problems()


@pytest.mark.ring2
def test_check_finds_nothing_wrong_on_a_small_volume_beside_the_local_stack(at_stack, small_volume, monkeypatch):
    monkeypatch.setenv("MODEL_ROOT", str(small_volume))
    assert problems() == ""
    result = call("check")
    assert result.exit_code == 0
    assert "0 problems" in result.stdout
    assert f"{len(load_presets())} private buckets" in result.stdout
    assert "dialect paths, signed" in result.stdout


def test_check_says_what_the_gates_know_and_what_they_refuse(no_settings):
    printed = call("check").stdout
    assert "word lists of" in printed
    assert "no age scorer: adult jobs are refused" in printed


def test_check_tells_a_refused_key_from_an_absent_service(at_stack, monkeypatch):
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", "a-token-of-somebody-else")
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    found = problems()
    assert "The queue refused the token. Check the key." in found
    assert "storage did not answer: ConnectError. Check the address and the network." in found


def test_check_names_buckets_that_are_not_there(at_stack, monkeypatch):
    presets = load_presets()
    monkeypatch.setattr("workers.cli.checks.load_presets", lambda: {**presets, "image_tall": presets["image_fast"]})
    assert "there is no bucket image_tall." in problems()


def test_check_wants_a_secret_where_the_receiver_insists_on_signatures(at_stack, monkeypatch):
    monkeypatch.setenv("CALLBACK_DIALECT", "objects")
    monkeypatch.setenv("JOB_CALLBACK_SECRET", "")
    assert "JOB_CALLBACK_SECRET is not set" in problems()


def test_no_secret_is_ever_printed(at_stack, monkeypatch):
    monkeypatch.setenv("CALLBACK_URL", "https://robot:pass-word@example.org:8443/called?key=private-key")
    printed = call("check").stdout + call("status").stdout + call("check", "--json").stdout
    assert "https://example.org:8443/called" in printed
    secrets = [at_stack.env[n] for n in ("SUPABASE_SERVICE_KEY", "UPSTASH_REDIS_REST_TOKEN", "JOB_CALLBACK_SECRET")]
    assert not any(secret in printed for secret in [*secrets, "pass-word", "private-key"])
