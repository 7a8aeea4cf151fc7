"""The authors' files become the diffusers layout once, whole, readable and without loss."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from wan_support import forbid_network

from workers.card import weights
from workers.engines.wan import convert, pipeline
from workers.errors import Interrupted, Misconfigured
from workers.tiny import wan as tiny
from workers.watch import Watch

pytestmark = pytest.mark.pipelines

COMPONENTS = ("text_encoder", "transformer", "vae")
AUTHORS_FILES = ("diffusion_pytorch_model.safetensors", "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth")
STAYS_FP32 = ("time_embedder", "scale_shift_table", "norm2")


@pytest.fixture(autouse=True)
def _offline(monkeypatch) -> None:
    forbid_network(monkeypatch.setattr)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    weights.quiet_libraries()
    folder = tmp_path_factory.mktemp("volume")
    tiny.write(folder)
    return folder / tiny.FOLDER


@pytest.fixture
def root(written, tmp_path) -> Path:
    """The authors' layout on a volume of this test's own."""
    return Path(shutil.copytree(written, tmp_path / "models" / tiny.FOLDER))


@pytest.fixture
def converted(root) -> Path:
    return root.with_name(root.name + "-diffusers")


def ready(root: Path, converted: Path, watch: Watch | None = None) -> Path:
    return convert.ready_folder(root, converted, watch or Watch())


def problems_of(call) -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        call()
    return caught.value.problems


def tensors(folder: Path) -> dict:
    from safetensors.torch import load_file

    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in [folder, *folder.rglob("*")]}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_tensor_arrives_under_its_new_name_with_its_values(component, root, converted, tmp_path):
    tiny.write_diffusers(tmp_path / "other")
    expected = tensors(tmp_path / "other" / tiny.FOLDER / component)
    found = tensors(ready(root, converted) / component)
    assert found.keys() == expected.keys() - {"encoder.embed_tokens.weight"}
    assert all(tensor.float().equal(expected[name]) for name, tensor in found.items())


def test_what_must_stay_fp32_is_stored_in_fp32_and_the_rest_in_bf16(root, converted):
    import torch

    for name, tensor in tensors(ready(root, converted) / "transformer").items():
        kept = any(part in name.split(".") for part in STAYS_FP32)
        assert tensor.dtype == (torch.float32 if kept else torch.bfloat16), name
    for component in ("vae", "text_encoder"):
        assert {t.dtype for t in tensors(converted / component).values()} == {torch.bfloat16}


def test_what_must_stay_fp32_keeps_every_bit_through_loading(root, converted):
    import torch
    from diffusers import WanTransformer3DModel
    from safetensors.torch import load_file

    model = WanTransformer3DModel.from_pretrained(ready(root, converted) / "transformer", dtype=torch.bfloat16)
    authors = load_file(root / "diffusion_pytorch_model.safetensors")
    linear = model.condition_embedder.time_embedder.linear_1
    assert linear.weight.equal(authors["time_embedding.0.weight"])
    assert model.blocks[0].scale_shift_table.equal(authors["blocks.0.modulation"])
    assert not linear.weight.equal(linear.weight.bfloat16().float()), "the test needs values that bf16 cannot hold"
    assert model.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16


def test_a_second_start_writes_nothing(root, converted):
    before = state(ready(root, converted))
    watch = Watch()
    assert ready(root, converted, watch) == converted
    assert state(converted) == before
    assert "convert" not in watch.timings


def test_changed_sources_are_converted_again(root, converted):
    before = tensors(ready(root, converted) / "vae")["decoder.conv_out.weight"]
    tiny.write(root.parent, seed=1)
    after = tensors(ready(root, converted) / "vae")["decoder.conv_out.weight"]
    assert not after.equal(before)


def test_a_damaged_conversion_is_made_again(root, converted):
    before = tensors(ready(root, converted) / "transformer")
    cut(converted / "transformer" / "diffusion_pytorch_model.safetensors")
    after = tensors(ready(root, converted) / "transformer")
    assert after.keys() == before.keys()


def test_a_large_component_is_cut_into_shards_that_are_all_found(root, converted, monkeypatch):
    monkeypatch.setattr(convert, "SHARD", "100KB")
    pipeline.check(ready(root, converted))
    assert len(list((converted / "vae").glob("*.safetensors"))) > 2
    next((converted / "vae").glob("*-00002-of-*")).unlink()
    assert "00002" in problems_of(lambda: pipeline.check(converted))[0]


def test_another_user_can_read_the_conversion(root, converted):
    for path in [ready(root, converted), *converted.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_the_conversion_serves_on_without_the_authors_files(root, converted):
    ready(root, converted)
    for name in AUTHORS_FILES:
        (root / name).unlink()
    assert ready(root, converted) == converted
    shutil.rmtree(root)
    assert ready(root, converted) == converted


def test_a_layout_that_was_not_made_here_is_used_and_never_replaced(root, converted):
    ready(root, converted)
    (converted / convert.STAMP).unlink()
    before = state(converted)
    assert ready(root, converted) == converted
    assert state(converted) == before


def test_a_folder_that_is_no_conversion_is_not_replaced(root, converted):
    converted.mkdir()
    (converted / "holiday.txt").write_text("mine")
    assert str(converted) in problems_of(lambda: ready(root, converted))[0]
    assert (converted / "holiday.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_said_with_the_fix(root, tmp_path):
    (tmp_path / "file").write_text("")
    [problem] = problems_of(lambda: ready(root, tmp_path / "file" / "converted"))
    assert "cannot be converted" in problem
    assert "a volume that can be written" in problem


def test_a_full_volume_is_said_before_anything_is_written(root, converted, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "are free" in problems_of(lambda: ready(root, converted))[0]
    assert not converted.exists()


def test_an_interrupted_conversion_leaves_nothing_behind_and_the_next_one_works(root, converted):
    watch = Watch(on_step=lambda watch: watch.done and watch.abort(Interrupted()))
    with pytest.raises(Interrupted):
        ready(root, converted, watch)
    assert [path.name for path in root.parent.iterdir() if path.is_dir()] == [root.name]
    assert ready(root, converted) == converted


def test_what_a_killed_conversion_left_is_swept_away(root, converted):
    left = converted.with_name(f".{converted.name}.new")
    (left / "vae").mkdir(parents=True)
    (left / "vae" / "half.safetensors").write_bytes(b"half")
    ready(root, converted)
    assert not left.exists()
    assert not list(converted.rglob("half*"))


def test_all_missing_files_are_named_at_once(root, converted):
    for name in AUTHORS_FILES:
        (root / name).unlink()
    shutil.rmtree(root / "google")
    problems = problems_of(lambda: ready(root, converted))
    assert len(problems) == 4
    for name in (*AUTHORS_FILES, "google/umt5-xxl"):
        assert sum(name in problem for problem in problems) == 1


def test_all_truncated_files_are_named_at_once(root, converted):
    for name in AUTHORS_FILES:
        cut(root / name)
    problems = problems_of(lambda: ready(root, converted))
    assert sorted(Path(problem.split(" is not a whole checkpoint")[0]).name for problem in problems) == sorted(
        AUTHORS_FILES
    )
    assert not converted.exists()


def test_a_checkpoint_without_some_tensors_is_refused_by_name(root, converted):
    import torch

    path = root / "Wan2.1_VAE.pth"
    whole = torch.load(path)
    torch.save({name: t for name, t in whole.items() if not name.startswith("decoder.head")}, path)
    [problem] = problems_of(lambda: ready(root, converted))
    assert "Wan2.1_VAE.pth lacks 3 of 194 tensors" in problem


def test_weights_of_another_size_than_the_configuration_are_refused(root, converted):
    shutil.rmtree(root / "config")
    problems = problems_of(lambda: ready(root, converted))
    assert len(problems) == 3
    assert all(f"Put its configuration into {root / 'config'}" in p or "lacks" in p for p in problems)


def test_code_in_a_pickle_does_not_run(root, converted, tmp_path):
    import torch

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"conv1.weight": Evil()}, root / "Wan2.1_VAE.pth")
    [problem] = problems_of(lambda: ready(root, converted))
    assert "Wan2.1_VAE.pth is not a whole checkpoint" in problem
    assert not (tmp_path / "ran").exists()


def test_every_damage_of_a_diffusers_layout_is_named_at_once(root, converted):
    ready(root, converted)
    cut(converted / "vae" / "diffusion_pytorch_model.safetensors")
    (converted / "text_encoder" / "model.safetensors").unlink()
    (converted / "transformer" / "config.json").unlink()
    shutil.rmtree(converted / "tokenizer")
    assert len(problems_of(lambda: pipeline.check(converted))) == 4


def test_the_shipped_configuration_is_the_real_model():
    from workers.engines.wan.originals import COMPONENTS as REAL

    sizes = {c.folder: sum(p.numel() for p in c.skeleton(convert.CONFIG_DIR / "wan").parameters()) for c in REAL}
    assert sizes == {"transformer": 1_418_996_800, "vae": 126_892_531, "text_encoder": 5_680_910_336}
