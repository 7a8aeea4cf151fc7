"""Gate G5: a chain of lines that nobody can change, take out or put in unnoticed, whoever is killed while writing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import wait_until
from workers.safety.audit import Chain, Key, chains, files_of, load_key, records
from workers.safety.proof import prove
from workers.safety.registry import Registry
from workers.safety.restore import restore

ROOT = Path(__file__).resolve().parents[1]
KEY = Key(b"a key")
WRITER = """
import sys
from pathlib import Path
from workers.safety.audit import Chain, Key
chain = Chain(Path(sys.argv[1]), "test", Key(b"a key"), limit=20_000)
while True:
    chain.write("made", outputs=["x" * 300])
"""


FROZEN = """
import fcntl, sys, time
lock = open(sys.argv[1], "ab")
fcntl.flock(lock, fcntl.LOCK_EX)
print("within", flush=True)
time.sleep(600)
"""


def chain(folder: Path, name: str = "test", **options) -> Chain:
    return Chain(folder, name, KEY, **options)


def filled(folder: Path, lines: int = 5) -> Path:
    writer = chain(folder)
    for number in range(lines):
        writer.write("made", job=f"job {number}", scores={"explicitness": 0.1}, note="日本 \u2028")
    (file,) = files_of(folder, "test")
    return file


def fault(folder: Path, name: str = "test") -> str | None:
    return prove(folder, name, KEY).fault


def test_what_was_written_is_whole_and_sealed(tmp_path):
    filled(tmp_path)
    proof = prove(tmp_path, "test", KEY)
    assert (proof.fault, proof.lines, proof.sealed) == (None, 5, 5)
    assert proof.head == list(records(tmp_path))[-1]["hash"]


def edited(lines: list[bytes], number: int, **facts) -> list[bytes]:
    changed = json.loads(lines[number]) | facts
    return [*lines[:number], json.dumps(changed).encode() + b"\n", *lines[number + 1 :]]


def resealed(lines: list[bytes], number: int) -> list[bytes]:
    """Changed by somebody who makes the hashes right, but has no key."""
    from workers.safety.audit import hash_of

    changed = json.loads(lines[number]) | {"job": "another"}
    changed["hash"] = hash_of(changed)
    return [*lines[:number], json.dumps(changed).encode() + b"\n"]


TAMPERINGS = {
    "a changed fact": lambda lines: edited(lines, 2, job="another"),
    "a new fact": lambda lines: edited(lines, 2, more=1),
    "another hash": lambda lines: edited(lines, 2, hash="0" * 64),
    "another seal": lambda lines: edited(lines, 2, seal="0" * 32),
    "a line taken out": lambda lines: lines[:2] + lines[3:],
    "the first line taken out": lambda lines: lines[1:],
    "two lines exchanged": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "a line twice": lambda lines: [*lines[:2], lines[1], *lines[2:]],
    "a line of rubbish": lambda lines: [*lines[:2], b"rubbish\n", *lines[2:]],
    "half a line": lambda lines: [*lines[:2], lines[2][:30] + b"\n", *lines[3:]],
    "the end made anew without the key": lambda lines: resealed(lines, 4),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_every_tampering_is_noticed(tmp_path, tampering):
    file = filled(tmp_path)
    assert fault(tmp_path) is None
    file.write_bytes(b"".join(TAMPERINGS[tampering](file.read_bytes().splitlines(keepends=True))))
    assert file.name in fault(tmp_path)


def test_an_end_cut_off_shows_in_the_head(tmp_path):
    file = filled(tmp_path)
    head = prove(tmp_path, "test", KEY).head
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    assert prove(tmp_path, "test", KEY).head != head


def test_lines_under_an_older_key_are_whole_but_not_sealed_with_this_one(tmp_path):
    filled(tmp_path)
    proof = prove(tmp_path, "test", Key(b"another key"))
    assert (proof.fault, proof.sealed, proof.foreign) == (None, 0, 5)


@pytest.mark.parametrize("cut", [1, 10, 100, "all but the line break"])
def test_a_torn_last_line_is_told_about_and_the_chain_goes_on(tmp_path, cut):
    file = filled(tmp_path)
    data = file.read_bytes()
    file.write_bytes(data[:-1] if isinstance(cut, str) else data[:-cut])
    chain(tmp_path).write("made", job="after")
    chain(tmp_path).write("made", job="and after")
    assert fault(tmp_path) is None
    assert [line["job"] for line in records(tmp_path) if "job" in line][-2:] == ["after", "and after"]


def test_a_torn_line_cannot_be_taken_away_later(tmp_path):
    file = filled(tmp_path)
    file.write_bytes(file.read_bytes()[:-50])
    chain(tmp_path).write("made", job="after")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(line for line in lines if line.endswith(b"}\n")))
    assert fault(tmp_path) is not None


def test_a_chain_goes_on_in_a_new_file_when_one_is_full(tmp_path):
    writer = chain(tmp_path, limit=2_000)
    for number in range(40):
        writer.write("made", job=f"job {number}")
    assert len(files_of(tmp_path, "test")) > 2
    assert fault(tmp_path) is None
    files_of(tmp_path, "test")[1].unlink()
    assert fault(tmp_path) is not None


def test_threads_and_processes_of_one_name_write_one_chain(tmp_path):
    one, other = chain(tmp_path, patience=600), chain(tmp_path, patience=600)
    threads = [threading.Thread(target=lambda w=w: [w.write("made") for _ in range(20)]) for w in (one, other, one)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    proof = prove(tmp_path, "test", KEY)
    assert (proof.fault, proof.lines) == (None, 60)


def test_writers_of_other_names_have_chains_of_their_own(tmp_path):
    for name in ("sdxl@pod/1", "wan@pod 1"):
        chain(tmp_path, name).write("made")
    assert chains(tmp_path) == ["sdxl@pod_1", "wan@pod_1"]
    assert not any(fault(tmp_path, name) for name in chains(tmp_path))


def test_killed_writers_leave_a_chain_that_is_whole(tmp_path):
    for _ in range(3):
        before = len(list(records(tmp_path)))
        with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], cwd=ROOT) as writer:
            wait_until(lambda before=before: len(list(records(tmp_path))) > before + 20)
            os.kill(writer.pid, signal.SIGKILL)
    chain(tmp_path).write("made", job="after")
    assert fault(tmp_path) is None


@contextmanager
def frozen_within(folder: Path, lock: str) -> Iterator[None]:
    """Another process that came in and neither goes on nor ends."""
    command = [sys.executable, "-c", FROZEN, folder / lock]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            holder.kill()


def test_a_process_that_freezes_while_it_writes_holds_nobody_up_and_no_line_is_lost(tmp_path):
    chain(tmp_path).write("made", job="before")
    other = chain(tmp_path, patience=0.2)
    with frozen_within(tmp_path, ".test.lock"):
        other.write("blocked", job="meanwhile")
        other.write("made", job="and then")
    chain(tmp_path).write("made", job="after")
    assert [line.get("job", line["event"]) for line in records(tmp_path)] == [
        "before",
        "apart",
        "meanwhile",
        "and then",
        "after",
    ]
    assert chains(tmp_path) == ["test", f"test-{os.getpid()}"]
    assert not any(fault(tmp_path, name) for name in chains(tmp_path))


def test_where_no_chain_can_be_written_to_in_time_nothing_is_decided(tmp_path):
    own = f".test-{os.getpid()}.lock"
    writer = chain(tmp_path, patience=0.2)
    with frozen_within(tmp_path, ".test.lock"), frozen_within(tmp_path, own):
        for _ in range(2):
            with pytest.raises(TimeoutError, match="does not let go of its lock"):
                writer.write("admitted")
    assert not list(records(tmp_path))
    writer.write("admitted")
    assert chains(tmp_path) == [f"test-{os.getpid()}"]


def test_a_key_that_is_there_is_read_whoever_holds_the_lock(tmp_path):
    made = load_key(tmp_path, None)
    with frozen_within(tmp_path, ".key.lock"):
        assert load_key(tmp_path, None) == made


def test_the_key_is_the_settings_or_one_made_beside_the_audit_for_its_owner_only(tmp_path):
    assert load_key(tmp_path, "given") == Key(b"given")
    made = load_key(tmp_path, None)
    assert load_key(tmp_path, None) == made
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_pseudonym_is_the_same_for_the_same_text_and_key_only():
    assert KEY.mac("a red bicycle") == Key(b"a key").mac("a red bicycle")
    assert KEY.mac("a red bicycle") != Key(b"another").mac("a red bicycle")
    assert KEY.mac("\ud800")


def test_a_lost_registry_is_built_again_from_the_audit(tmp_path):
    writer = chain(tmp_path)
    output = {"index": 0, "sha256": "a" * 64, "prints": ["0123456789abcdef", None]}
    writer.write("made", job="j", user="nym", type="image_fast", outputs=[output])
    writer.write("takedown", job="j", blocked=["a" * 64, "0123456789abcdef"])
    registry = Registry(tmp_path)
    restore(registry, records(tmp_path))
    assert registry.find("a" * 64).user == "nym"
    assert registry.block_list().match(["0123456789abcdef"]) == "j"
    assert registry.block_list().match([None], "a" * 64) == "j"


@pytest.mark.parametrize("names", [("sdxl@pod", "operator@pod"), ("operator@pod", "sdxl@pod")])
def test_who_was_forgotten_in_the_same_moment_stays_so_whichever_chain_says_it(tmp_path, names):
    writer, operator = (chain(tmp_path, name, clock=lambda: 5.0) for name in names)
    writer.write(
        "made", job="j", user="nym", type="image_fast", outputs=[{"index": 0, "sha256": "a" * 64, "prints": []}]
    )
    operator.write("forgotten", user="nym")
    restore(registry := Registry(tmp_path), records(tmp_path))
    assert registry.find("a" * 64).user == ""
