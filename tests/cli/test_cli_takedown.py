"""`audit`, `takedown` and `forget`: a drill with re-encoded copies, on the local stack."""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from terminal import call, call_json
from typer.testing import CliRunner

from tests.guarding import guarded
from tests.pod import ask
from tests.test_scorers import COPIES, scene
from workers.cli.app import app
from workers.delivery.outbox import Outbox, Sealed
from workers.job import Artifact, Job, Output, Picture
from workers.kinds import open_storage, open_veil
from workers.safety.audit import records
from workers.safety.block import Blocked
from workers.safety.guards import open_audit
from workers.safety.inspection import Inspection
from workers.supabase.erasure import Erasure

pytestmark = pytest.mark.ring2

USER, OTHER = "11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555"


class Made:
    """Jobs as workers leave them: objects in storage, hashes in the registry, lines in the audit."""

    def __init__(self, settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self.chain, self.registry = open_audit("wan@pod", settings)
        self.gates = guarded(folder)  # beside the same audit
        self._inspection = Inspection(self.gates.inspection.screen, self.chain, self.registry)

    def job(self, pixels: np.ndarray, user: str = USER, job_type: str = "image_fast") -> str:
        self.job_id, self.user_id = str(uuid.uuid4()), user
        self.metadata = {"rating": "sfw", "job_type": job_type, "seeds": [7]}
        file = self._folder / f"{self.job_id}.png"
        Image.fromarray(pixels).save(file)
        artifact = Artifact(0, file, "image/png", (pixels.shape[1], pixels.shape[0]), 1, 7)
        scan = self._inspection.look(self, Output(0, 7, pixels[None]))
        self._inspection.record(self, job_type, [artifact], [scan])
        storage = open_storage(self._settings)
        storage.put(artifact, job_type, user, self.job_id)
        storage.close()
        return self.job_id

    def wait_in_outbox(self, job_id: str, user: str) -> Outbox:
        outbox = Outbox(self._settings.outbox, min_free=0, veil=open_veil(self._settings))
        folder = outbox.stage(uuid.uuid4().hex)
        (folder / "0.png").write_bytes(b"pixels")
        artifact = Artifact(0, folder / "0.png", "image/png", (8, 8), 1, 7)
        outbox.seal(folder, Sealed(folder, job_id, "image_fast", user, (artifact,)))
        return outbox


@pytest.fixture
def made(settings, tmp_path) -> Made:
    return Made(settings, tmp_path)


def paths(stack) -> set[str]:
    return {entry["path"] for entry in stack.objects()}


def copy_of(pixels: np.ndarray, quality: int) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def test_a_takedown_deletes_finds_copies_and_keeps_all_of_them_from_coming_back(made, stack):
    job, alike, other = made.job(scene(1)), made.job(copy_of(scene(1), 70), OTHER), made.job(scene(2))
    outbox = made.wait_in_outbox(job, USER)
    said = call_json("takedown", job)
    assert [copy["job"] for copy in said["copies"]] == [alike]
    assert paths(stack) == {f"{OTHER}/{alike}/0.png", f"{USER}/{other}/0.png"}
    assert outbox.find(job) is None
    screen, gate = made.gates.inspection.screen, made.gates.gate
    for change in (*COPIES.values(), mirrored):
        again = change(Image.fromarray(scene(1)))
        with pytest.raises(Blocked):
            screen.look(Output(0, 1, again[None]), "sfw")
        with pytest.raises(Blocked):
            gate.admit_references(Job("j", "image_fast", USER, ""), "sfw", {"image": shown(again)})
    screen.look(Output(0, 1, scene(2)[None]), "sfw")


def mirrored(picture: Image.Image) -> np.ndarray:
    return copy_of(np.asarray(ImageOps.mirror(picture)), 70)


def shown(pixels: np.ndarray) -> Picture:
    return Picture((pixels.shape[1], pixels.shape[0]), pixels.tobytes(), 1, "f" * 64)


def test_a_dry_run_changes_nothing(made, stack, settings):
    job = made.job(scene(1))
    before = len(list(records(settings.audit)))
    said = call_json("takedown", job, "--dry-run")
    assert (said["outputs"], said["place known"]) == (1, True)
    assert paths(stack) == {f"{USER}/{job}/0.png"}
    assert not made.registry.block_list().prints
    assert [line["event"] for line in list(records(settings.audit))[before:]] == []


def test_copies_are_deleted_too_where_that_is_asked_for(made, stack):
    job, alike = made.job(scene(1)), made.job(copy_of(scene(1), 70), OTHER)
    assert sorted(call_json("takedown", job, "--with-copies")["objects deleted of"]) == sorted([job, alike])
    assert paths(stack) == set()


def test_a_takedown_is_written_down_and_can_be_repeated(made, settings):
    job = made.job(scene(1))
    for _ in range(2):
        assert call("takedown", job).exit_code == 0
    lines = [line for line in records(settings.audit) if line["event"] == "takedown"]
    assert [line["job"] for line in lines] == [job, job]
    assert call("audit", "verify").exit_code == 0


def test_a_job_that_nobody_knows_cannot_be_taken_down(made):
    result = call("takedown", str(uuid.uuid4()))
    assert result.exit_code == 1
    assert "Nothing is known" in result.stderr


def test_forgetting_a_user_deletes_everything_of_theirs_and_nothing_of_others(made, stack, settings):
    ours = [stack.submit("image_fast", "a red bicycle", user_id=USER)]
    theirs = stack.submit("image_fast", "a lighthouse at dusk", user_id=OTHER)
    kept, gone = made.job(scene(1), OTHER), made.job(scene(2), USER)
    outbox = made.wait_in_outbox(gone, USER)
    assert call_json("forget", USER, "--dry-run")["objects"] == 1
    said = call_json("forget", USER)
    assert (said["objects"], said["rows"]["jobs"], said["hashes"]) == (1, 1, 1)
    assert paths(stack) == {f"{OTHER}/{kept}/0.png"}
    assert [row["id"] for row in stack.jobs()] == [theirs]
    assert outbox.jobs() == []
    assert made.registry.of_job(gone)[0].owner is None
    assert made.registry.of_job(kept)[0].owner == OTHER
    assert USER not in json.dumps(list(records(settings.audit)))
    assert call("audit", "verify").exit_code == 0
    assert ours


def test_forgetting_a_user_takes_given_up_jobs_along_even_such_as_cannot_be_read(made, stack):
    unreadable, foreign = (f'x\n{{"user_id": "{user}", "seed": NaN, "prompt": "rain"}}' for user in (USER, OTHER))
    ask(stack, "RPUSH", "wan_queue:dead", unreadable, foreign)
    assert call_json("forget", USER)["queued or remembered"] == 1
    assert ask(stack, "LRANGE", "wan_queue:dead", 0, -1) == [foreign]


def test_forgetting_somebody_else_than_a_user_is_refused(settings):
    assert call("forget", "../").exit_code != 0


def test_a_users_folder_is_listed_page_by_page(made, stack, settings, monkeypatch):
    monkeypatch.setattr("workers.supabase.erasure.PAGE", 2)
    for seed in range(5):
        made.job(scene(seed, 64))
    project = Erasure(settings.supabase_url, settings.supabase_service_key.get_secret_value())
    assert project.objects(USER) == 5
    project.close()
    assert paths(stack) == set()


def test_verify_says_where_a_chain_was_changed_and_exits_with_1(made, settings):
    made.job(scene(1))
    assert "whole" in call("audit", "verify").stdout
    file = next(settings.audit.glob("*.jsonl"))
    file.write_text(file.read_text().replace('"sfw"', '"adult"'))
    result = call("audit", "verify")
    assert result.exit_code == 1
    assert f"{file.name} line 1: it was changed" in result.stdout


def test_show_prints_the_lines_of_a_job_in_the_order_of_their_time(made):
    first, second = made.job(scene(1)), made.job(scene(2))
    assert [line["job"] for line in call_json("audit", "show", "--event", "made")] == [first, second]
    assert [line["job"] for line in call_json("audit", "show", "--job", second)] == [second]
    assert first in call("audit", "show").stdout


def test_names_become_hashes(made):
    from workers.safety.persons import key

    def hashed(names: str) -> list[str]:
        return CliRunner().invoke(app, ["audit", "hash-names"], input=names).stdout.split()

    assert hashed("Quilla Vondermoot\n\n") == [key("quilla vondermoot")]
    assert hashed("") == []
