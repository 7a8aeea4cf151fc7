"""docs/deploy-supabase.md: each step that can be run here is run as it is written there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from fnrig import Browser, Worker

from workers.local.edge.stack import FUNCTIONS, NAMES

ROOT = FUNCTIONS.parents[1]
GUIDE = (ROOT / "docs" / "deploy-supabase.md").read_text()
GIVEN_BY_THE_PLATFORM = "SUPABASE_"
CURL = """\
#!{python}
# As much of curl as the guide uses: -s URL, -H header, -d body.
import sys
import httpx
words, url, headers, body = iter(sys.argv[1:]), "", [], None
for word in words:
    if word == "-H":
        headers.append(tuple(part.strip() for part in next(words).split(":", 1)))
    elif word == "-d":
        body = next(words)
    elif word != "-s":
        url = word
print(httpx.request("POST" if body else "GET", url, headers=headers, content=body, timeout=60, verify=False).text)
"""


def step(number: int) -> str:
    found = re.search(rf"^\*\*{number}\. .*?(?=^\*\*\d+\. |^## )", GUIDE, re.MULTILINE | re.DOTALL)
    assert found, number
    return found.group()


def commands(number: int) -> list[str]:
    """The indented blocks of a step."""
    return [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n)+", step(number), re.MULTILINE)]


def variables(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE))


def shell(folder: Path, script: str, **env: str) -> str:
    curl = folder / "curl"
    curl.write_text(CURL.format(python=sys.executable))
    curl.chmod(0o755)
    given = {"PATH": f"{folder}:{os.environ['PATH']}", **env}
    done = subprocess.run(["bash", "-euc", script], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_ten_steps():
    assert re.findall(r"^\*\*(\d+)\. ", GUIDE, re.MULTILINE) == [str(number) for number in range(1, 11)]


def test_every_secret_that_a_function_reads_is_explained_and_no_other():
    read: set[str] = set()
    for source in FUNCTIONS.rglob("*.ts"):
        for arguments in re.findall(r"\b(?:setting|required)\(([^)]*)\)", source.read_text()):
            read |= set(re.findall(r'"([A-Z][A-Z0-9_]+)"', arguments))
    ours = {name for name in read if not name.startswith(GIVEN_BY_THE_PLATFORM)}
    assert set(variables((ROOT / "supabase" / "example.env").read_text())) == ours


def test_the_platform_leaves_tokens_to_the_functions():
    config = tomllib.loads((ROOT / "supabase" / "config.toml").read_text())
    assert config["functions"] == {name: {"verify_jwt": False} for name in NAMES}


def test_every_function_is_in_the_guide_and_answers(edge):
    for name in NAMES:
        assert f"| `{name}` |" in GUIDE
        assert edge.http.post(f"/functions/v1/{name}", json={}).status_code == 401


def test_what_the_clock_runs_can_be_run(edge):
    (schedule,) = commands(8)
    job = re.search(r"'(select [^']*)'\)", schedule)
    assert job
    assert "webhook_ids" in edge.sql(job.group(1))


@pytest.mark.parametrize("kind", ["new", "legacy"])
def test_the_workers_variables_are_enough_to_check_them(edge, kind, tmp_path):
    (block,) = commands(9)
    env = {name: edge.env[name] for name in variables(block)}
    if kind == "legacy":
        env["SUPABASE_SERVICE_KEY"] = edge.other_keys.service
    command = [sys.executable, "-m", "workers", "check", "--json"]
    kept = {"PATH": os.environ["PATH"], "OURVIDZ_RUN_DIR": str(tmp_path), "MODEL_ROOT": str(tmp_path)}
    done = subprocess.run(command, env=kept | env, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["findings"]
    for subject in ("settings", "queue", "storage", "callback"):
        assert {each["state"] for each in found if each["subject"] == subject} == {"ok"}, found


def test_the_first_job_is_queued_and_followed_word_for_word(browser: Browser, tmp_path):
    queue, follow = commands(10)
    env = {
        "SUPABASE_URL": browser.edge.supabase.url,
        "USER_TOKEN": browser.edge.keys.user_token(browser.user),
        "USER_ID": browser.user,
        "PUBLISHABLE_KEY": "sb_publishable_local",
    }
    job = json.loads(shell(tmp_path, queue, **env))["job"]
    path = f"{browser.user}/{job['id']}/0.png"
    png = {"Content-Type": "image/png"}
    browser.edge.http.post(f"/storage/v1/object/image_fast/{path}", content=b"png", headers=png).raise_for_status()
    Worker(browser.edge, job).says("completed")
    progress, signed = shell(tmp_path, follow, **env, JOB_ID=job["id"]).splitlines()
    assert json.loads(progress)["job"]["status"] == "completed"
    assert "token=" in signed
