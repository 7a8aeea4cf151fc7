"""The small SDXL checkpoint has the layout of the real one, and the real loader uses all of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from offline import offline
from safetensors.torch import load_file
from sdxl_support import pixels, tiny_engine

from workers.engines.sdxl import load
from workers.tiny import sdxl as tiny

pytestmark = pytest.mark.pipelines


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.write(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(root: Path) -> Iterator[dict[str, Any]]:
    """The networks that the engine's loader makes of the file, by part."""
    checkpoint = root / tiny.CHECKPOINT
    with offline(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(load.vae, "shrink", lambda vae: None)
        pipeline = load.load_pipeline(checkpoint, load.config_for(checkpoint), "cpu")
        yield {part: getattr(pipeline, part) for part in tiny.SIZES}


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / tiny.CHECKPOINT).read_bytes()).hexdigest()


def test_every_tensor_of_the_file_arrives_unchanged_in_the_network_it_belongs_to(
    root: Path, loaded: dict[str, Any]
) -> None:
    written = tiny.models((root / tiny.CHECKPOINT).parent / "config", seed=0)
    for part, network in written.items():
        arrived = loaded[part].state_dict()
        for name, tensor in network.state_dict().items():
            assert torch.equal(arrived.pop(name), tensor.half().float()), f"{part}.{name}"
        assert not arrived


def test_the_file_holds_nothing_beside_the_networks_but_a_scale_for_training(
    root: Path, loaded: dict[str, Any]
) -> None:
    tensors = load_file(root / tiny.CHECKPOINT)
    numbers = sum(tensor.numel() for tensor in tensors.values())
    parameters = sum(p.numel() for network in loaded.values() for p in network.parameters())
    assert len(tensors) >= 860
    assert numbers == parameters + tensors["conditioner.embedders.1.model.logit_scale"].numel()


def test_the_file_is_stored_in_half_precision_and_small(root: Path) -> None:
    assert {tensor.dtype for tensor in load_file(root / tiny.CHECKPOINT).values()} == {torch.float16}
    assert (root / tiny.CHECKPOINT).stat().st_size < 20_000_000


@pytest.mark.parametrize(
    "pattern",
    [
        r"model\.diffusion_model\.input_blocks\.4\.1\.transformer_blocks\.0\.attn2\.to_k\.weight",
        r"model\.diffusion_model\.output_blocks\.2\.2\.conv\.weight",
        r"model\.diffusion_model\.label_emb\.0\.2\.bias",
        r"first_stage_model\.decoder\.up\.3\.upsample\.conv\.weight",
        r"first_stage_model\.encoder\.mid\.attn_1\.proj_out\.weight",
        r"conditioner\.embedders\.0\.transformer\.text_model\.encoder\.layers\.1\.self_attn\.q_proj\.weight",
        r"conditioner\.embedders\.1\.model\.transformer\.resblocks\.1\.attn\.in_proj_weight",
        r"conditioner\.embedders\.1\.model\.text_projection",
    ],
)
def test_keys_are_named_as_in_the_original_file(root: Path, pattern: str) -> None:
    assert any(re.fullmatch(pattern, key) for key in load_file(root / tiny.CHECKPOINT))


def test_the_text_encoders_differ_in_width() -> None:
    assert tiny.SIZES["text_encoder"]["hidden_size"] != tiny.SIZES["text_encoder_2"]["hidden_size"]


def test_a_seed_means_one_file_and_another_seed_another(root: Path, tmp_path: Path) -> None:
    tiny.write(tmp_path / "same", seed=0)
    tiny.write(tmp_path / "other", seed=1)
    assert digest(tmp_path / "same") == digest(root) != digest(tmp_path / "other")


def test_writing_leaves_the_random_state_of_the_process_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    tiny.write(tmp_path)
    assert torch.rand(1) == expected


def test_pictures_have_contrast_and_colour(tmp_path: Path) -> None:
    picture = pixels(tiny_engine(tmp_path))[0]
    assert picture.std() > 20
    assert abs(picture[..., 0] - picture[..., 2]).mean() > 5
