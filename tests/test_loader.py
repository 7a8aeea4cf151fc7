"""Weights on their way to the card: block by block, bit for bit, and into the models as their libraries load them.

A processor goes the card's way here, with ordinary memory in the place of pinned blocks.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from offline import offline
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs

from workers.card import loader
from workers.engines.qwen.engine import QwenEnhancer
from workers.engines.qwen.snapshot import find_snapshot
from workers.engines.sdxl import load as sdxl
from workers.engines.wan import pipeline as wan
from workers.errors import Interrupted, Misconfigured
from workers.prompting.rules import load_rules
from workers.tiny import qwen as tiny_qwen
from workers.tiny import sdxl as tiny_sdxl
from workers.tiny import wan as tiny_wan
from workers.watch import Watch

pytestmark = pytest.mark.pipelines

Networks = dict[str, Any]
MIXED = {
    "wide": torch.randn(300, 7),
    "half": torch.randn(1001).half(),
    "brain": torch.randn(5, 5, 5).bfloat16(),
    "numbers": torch.arange(99),
    "one": torch.tensor(4.6),
    "none": torch.zeros(0, 3),
    "marks": torch.tensor([True, False, True]),
}
PARTS = ("text_encoder", "text_encoder_2", "unet", "vae", "transformer")


def nothing(done: int, total: int) -> None: ...


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    with offline():
        yield


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that most tensors take many, and that each buffer is used again and again."""
    monkeypatch.setattr(loader, "BLOCK", 64)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    save_file(MIXED, tmp_path / "mixed.safetensors", metadata={"format": "pt"})
    return tmp_path / "mixed.safetensors"


def streamed(*files: Path, dtype: torch.dtype | None = None) -> loader.Tensors:
    return loader.load(files, "cpu", lambda name: dtype or MIXED[name].dtype, nothing)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit for bit, type and shape included."""
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


@pytest.mark.usefixtures("small_blocks")
def test_every_bit_of_a_file_arrives_whatever_its_dtype_and_shape(mixed: Path) -> None:
    arrived = streamed(mixed)
    assert arrived.keys() == MIXED.keys()
    assert all(same(arrived[name], tensor) for name, tensor in MIXED.items())


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_numbers_are_rounded_as_torch_rounds_them_and_integers_stay(mixed: Path, dtype: torch.dtype) -> None:
    for name, tensor in streamed(mixed, dtype=dtype).items():
        assert same(tensor, MIXED[name].to(dtype) if MIXED[name].is_floating_point() else MIXED[name]), name


@pytest.mark.usefixtures("small_blocks")
def test_tensors_of_several_files_come_together_and_progress_counts_all_bytes(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "other"]
    save_file({"wide": MIXED["wide"]}, files[0])
    save_file({"half": MIXED["half"]}, files[1])
    told: list[tuple[int, int]] = []
    arrived = loader.load(files, "cpu", lambda name: MIXED[name].dtype, lambda done, total: told.append((done, total)))
    assert all(same(arrived[name], MIXED[name]) for name in ("wide", "half"))
    size = sum(file.stat().st_size for file in files)
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 100


def test_each_tensor_has_memory_of_its_own(mixed: Path) -> None:
    arrived = [tensor for tensor in streamed(mixed).values() if tensor.numel()]
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in arrived)


def test_small_tensors_travel_together(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *asked: reads.append(asked[2]) or read(*asked))
    streamed(mixed)
    kinds = {tensor.dtype for tensor in MIXED.values() if tensor.numel()}
    assert len(reads) == len(set(reads)) == len(kinds)


@pytest.mark.parametrize("importing", [[], ["json.loads"]])
def test_readers_get_the_interpreter_soon_while_libraries_are_imported(mixed: Path, importing: list[str]) -> None:
    usual, seen = sys.getswitchinterval(), []
    loader.load([mixed], "cpu", lambda name: torch.float32, lambda *_: seen.append(sys.getswitchinterval()), importing)
    assert seen[0] == pytest.approx(loader.WAIT if importing else usual)
    assert sys.getswitchinterval() == usual


def test_reading_ends_when_told_to_and_leaves_no_thread_behind(mixed: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        loader.load([mixed], "cpu", lambda name: torch.float32, stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]


def test_a_file_that_is_cut_while_it_is_read_is_said(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = loader.stored_in(mixed)
    monkeypatch.setattr(loader, "stored_in", lambda path: stored)
    os.truncate(mixed, mixed.stat().st_size - 10)
    with pytest.raises(Misconfigured, match="became shorter while it was read"):
        streamed(mixed)


def test_a_disk_that_fails_is_said(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(Misconfigured, match=r"cannot be read \(Input/output error\)"):
        streamed(mixed)


def test_numbers_of_an_unknown_kind_are_said(tmp_path: Path) -> None:
    save_file({"exponents": torch.ones(4).to(torch.float8_e8m0fnu)}, tmp_path / "new")
    with pytest.raises(Misconfigured, match="F8_E8M0"):
        streamed(tmp_path / "new")


def test_a_damaged_file_is_refused(mixed: Path) -> None:
    mixed.write_bytes(mixed.read_bytes()[:-1])
    with pytest.raises(Misconfigured, match="not a whole safetensors file"):
        streamed(mixed)


def test_the_log_says_how_much_was_read_and_how_fast(mixed: Path) -> None:
    with capture_logs() as events:
        loader.load([mixed], "cpu", lambda name: torch.float32, nothing)
    assert [event["event"] for event in events] == ["weights read"]
    assert {"gb", "seconds", "gb_per_s"} < events[0].keys()


def test_while_it_takes_long_the_log_says_how_far_it_is(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "TELL_EVERY", 0.0)
    with capture_logs() as events:
        loader.load([mixed], "cpu", lambda name: torch.float32, nothing)
    assert {"gb", "total_gb", "gb_per_s"} < events[0].keys()
    assert events[0]["event"] == "reading weights"


def test_a_library_without_what_is_needed_ends_the_loading() -> None:
    with pytest.raises(AttributeError, match="NoSuchPipeline"):
        loader.load([], "cpu", lambda name: torch.float32, nothing, ["diffusers.NoSuchPipeline"])


def sdxl_networks(folder: Path) -> tuple[Networks, Callable[[torch.dtype], Networks]]:
    """Ours, and how the library loads them."""
    from diffusers import StableDiffusionXLPipeline

    tiny_sdxl.write(folder)
    checkpoint = folder / tiny_sdxl.CHECKPOINT
    config = sdxl.config_for(checkpoint)

    def theirs(dtype: torch.dtype) -> Networks:
        return parts(
            StableDiffusionXLPipeline.from_single_file(
                str(checkpoint), config=str(config), local_files_only=True, dtype=dtype, **sdxl.tokenizers()
            )
        )

    return parts(sdxl.load_pipeline(checkpoint, config, "cpu")), theirs


def wan_networks(folder: Path) -> tuple[Networks, Callable[[torch.dtype], Networks]]:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5EncoderModel

    tiny_wan.write_diffusers(folder)
    root = folder / tiny_wan.FOLDER
    classes = {"text_encoder": UMT5EncoderModel, "transformer": WanTransformer3DModel, "vae": AutoencoderKLWan}

    def theirs(dtype: torch.dtype) -> Networks:
        return {part: known.from_pretrained(root / part, dtype=dtype) for part, known in classes.items()}

    return parts(wan.load(root, "cpu", Watch())), theirs


def qwen_networks(folder: Path) -> tuple[Networks, Callable[[torch.dtype], Networks]]:
    from transformers import AutoModelForCausalLM

    tiny_qwen.write(folder)
    snapshot = find_snapshot(folder, "instruct")
    enhancer = QwenEnhancer(snapshot, device="cpu", variant="instruct", rules=load_rules().enhance)
    enhancer.load(Watch())
    return {"model": enhancer._model}, lambda dtype: {
        "model": AutoModelForCausalLM.from_pretrained(snapshot, dtype=dtype)
    }


def parts(pipeline: Any) -> Networks:
    return {part: getattr(pipeline, part) for part in PARTS if hasattr(pipeline, part)}


def tensors_of(network: Any) -> dict[str, torch.Tensor]:
    return {**dict(network.named_parameters(remove_duplicate=False)), **dict(network.named_buffers())}


@pytest.mark.parametrize("networks", [sdxl_networks, wan_networks, qwen_networks])
@pytest.mark.parametrize("precision", ["float32", "half"])
def test_models_are_what_their_libraries_load_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, networks: Any, precision: str
) -> None:
    half = torch.float16 if networks is sdxl_networks else torch.bfloat16
    dtype = torch.float32
    if precision == "half":
        dtype = half
        monkeypatch.setattr(loader.gpu, "dtype_for", lambda device, half: dtype)
        monkeypatch.setattr("workers.engines.qwen.engine.dtype_for", lambda device, half: dtype)
    ours, library = networks(tmp_path)
    for part, theirs in library(dtype).items():
        expected, found = tensors_of(theirs), tensors_of(ours[part])
        assert found.keys() == expected.keys()
        assert [name for name, tensor in found.items() if not same(tensor, expected[name])] == []
        assert ours[part].training is theirs.training is False


def test_shards_and_an_embedding_under_its_other_name_are_found(tmp_path: Path) -> None:
    tiny_wan.write_diffusers(tmp_path)
    folder = tmp_path / tiny_wan.FOLDER / "text_encoder"
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    encoder = wan.load(tmp_path / tiny_wan.FOLDER, "cpu", Watch()).text_encoder
    assert same(encoder.shared.weight.data, tensors["encoder.embed_tokens.weight"])


def test_weights_of_another_size_than_their_configuration_are_refused(tmp_path: Path) -> None:
    tiny_wan.write_diffusers(tmp_path)
    config = tmp_path / tiny_wan.FOLDER / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "ffn_dim": 64}))
    with pytest.raises(Misconfigured, match=r"transformer does not fit its config.json: .* has shape \(48"):
        wan.load(tmp_path / tiny_wan.FOLDER, "cpu", Watch())
