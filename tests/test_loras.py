"""LoRAs by name: each spelling of a file says the same, and nothing is left behind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin  # here: once the workers run, they hide peft from it
from offline import offline
from safetensors.torch import save_file
from sdxl_support import PARAMS
from sdxl_support import pixels as painted
from wan_support import PICTURE

from workers.engines.lora_file import Unfit, read
from workers.engines.loras import Shelf
from workers.engines.sdxl import SdxlEngine, fast, load
from workers.engines.sdxl import names as sdxl_names
from workers.engines.wan import WanEngine
from workers.engines.wan import names as wan_names
from workers.errors import Interrupted, Rejected
from workers.job import Guide, Lora, Picture
from workers.loras import LoraFile
from workers.tiny import sdxl, wan
from workers.watch import Watch

pytestmark = pytest.mark.pipelines

RANK, ALPHA = 4, 2.0
ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
CONVOLUTION = "up_blocks.0.upsamplers.0.conv"
FEED_FORWARD = "up_blocks.1.attentions.1.transformer_blocks.0.ff.net.0.proj"
UNET = (ATTENTION, TEXT, CONVOLUTION, FEED_FORWARD)
TRANSFORMER = ("blocks.0.attn1.to_q", "blocks.1.attn2.to_v", "blocks.1.ffn.net.0.proj", "proj_out")
Tensors = dict[str, torch.Tensor]


def drawn(module: Any, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Down and up for a module, large enough to be seen."""
    out, into, *kernel = module.weight.shape
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(RANK, into, *kernel, generator=generator) * 0.2
    return down, torch.randn(out, RANK, *(1 for _ in kernel), generator=generator) * 0.2


def layers(network: Any, paths: tuple[str, ...]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return {path: drawn(network.get_submodule(path), seed) for seed, path in enumerate(paths)}


def spelled(of: Mapping[str, Any], name: Callable[[str], str], down: str, up: str, alpha: bool) -> Tensors:
    """A LoRA file's tensors, in some trainer's spelling. Without an alpha its share is in the tensors."""
    tensors = {}
    for path, (below, above) in of.items():
        tensors[f"{name(path)}.{down}.weight"] = below
        tensors[f"{name(path)}.{up}.weight"] = above if alpha else above * (ALPHA / RANK)
        if alpha:
            tensors[f"{name(path)}.alpha"] = torch.tensor(ALPHA)
    return tensors


def kohya(name: str) -> str:
    return f"lora_unet_{name.replace('.', '_')}"


def original(path: str) -> str:
    return sdxl_names.unet_key(f"{path}.weight").removesuffix(".weight")


def authors(path: str) -> str:
    return wan_names.original_name(f"{path}.weight", wan_names.TRANSFORMER_NAMES).removesuffix(".weight")


SDXL_SPELLINGS: dict[str, Callable[[Any], Tensors]] = {
    "peft": lambda of: spelled(of, lambda path: f"unet.{path}", "lora_A", "lora_B", alpha=False),
    "diffusers": lambda of: spelled(of, lambda path: f"unet.{path}", "lora.down", "lora.up", alpha=False),
    "kohya": lambda of: spelled(of, kohya, "lora_down", "lora_up", alpha=True),
    "kohya_original": lambda of: spelled(of, lambda p: kohya(original(p)), "lora_down", "lora_up", alpha=True),
}
WAN_SPELLINGS: dict[str, Callable[[Any], Tensors]] = {
    "peft": lambda of: spelled(of, lambda path: f"transformer.{path}", "lora_A", "lora_B", alpha=False),
    "authors": lambda of: spelled(of, lambda p: f"diffusion_model.{authors(p)}", "lora_A", "lora_B", alpha=False),
    "authors_down_up": lambda of: spelled(
        of, lambda p: f"diffusion_model.{authors(p)}", "lora_down", "lora_up", alpha=True
    ),
    "musubi": lambda of: spelled(of, lambda p: kohya(authors(p)), "lora_down", "lora_up", alpha=True),
}


def offer(folder: Path, name: str, tensors: Tensors, base: str) -> LoraFile:
    path = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return LoraFile(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), base, max_strength=2.0)


def asked(name: str, strength: float = 1.0) -> tuple[Lora, ...]:
    return (Lora(name, strength),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[SdxlEngine]:
    """SDXL with one LoRA in every spelling."""
    with offline():
        sdxl.write(folder)
        offered: dict[str, LoraFile] = {}
        made = SdxlEngine(folder / sdxl.CHECKPOINT, device="cpu", loras=Shelf(folder, offered))
        made.load(Watch())
        of = layers(made._pipeline.unet, UNET)
        for name, spell in SDXL_SPELLINGS.items():
            offered[name] = offer(folder, name, spell(of), "sdxl")
        text = made._pipeline.text_encoder.get_submodule("encoder.layers.0.self_attn.q_proj")
        words = {"lora_te1_text_model_encoder_layers_0_self_attn_q_proj": drawn(text, 9)}
        offered["words"] = offer(folder, "words", spelled(words, str, "lora_down", "lora_up", alpha=True), "sdxl")
        yield made


@pytest.fixture(scope="module")
def video(folder: Path) -> Iterator[WanEngine]:
    """The video model with one LoRA in every spelling, and one that changes biases and norms."""
    with offline():
        wan.write(folder)
        wan.write_vace(folder)
        offered: dict[str, LoraFile] = {}
        shelf, vace = Shelf(folder, offered), folder / wan.VACE_FOLDER
        made = WanEngine(folder / wan.FOLDER, device="cpu", loras=shelf, vace=vace)
        made.load(Watch())
        of = layers(made._pipeline.transformer, TRANSFORMER)
        for name, spell in WAN_SPELLINGS.items():
            offered[f"wan_{name}"] = offer(folder, f"wan_{name}", spell(of), "wan")
        width = len(made._pipeline.transformer.get_submodule("blocks.0.attn1.to_q").weight)
        diffs = {
            "diffusion_model.blocks.0.self_attn.q.diff_b": torch.full((width,), 0.3),
            "diffusion_model.blocks.1.norm3.diff": torch.full((width,), 0.3),
        }
        offered["wan_diffs"] = offer(folder, "wan_diffs", diffs, "wan")
        yield made


def pixels(engine: SdxlEngine, **changes: Any) -> Any:
    return painted(engine, steps=2, **changes)


def frames(model: WanEngine, **changes: Any) -> Any:
    [output] = model.generate(replace(PICTURE, steps=2, **changes), Watch())
    return output.frames.astype(int)


def weights_of(network: Any) -> Tensors:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", [*SDXL_SPELLINGS, "words"])
def test_a_lora_changes_the_picture_and_leaves_no_bit_behind(engine: SdxlEngine, name: str) -> None:
    plain, base = pixels(engine), weights_of(engine._pipeline.unet)
    assert abs(pixels(engine, loras=asked(name)) - plain).max() > 1
    assert (pixels(engine) == plain).all()
    assert all(torch.equal(tensor, base[key]) for key, tensor in engine._pipeline.unet.state_dict().items())


def test_every_spelling_of_an_sdxl_lora_gives_the_same_picture(engine: SdxlEngine) -> None:
    first, *others = (pixels(engine, loras=asked(name)) for name in SDXL_SPELLINGS)
    assert all(abs(other - first).max() <= 1 for other in others)


def test_every_spelling_of_a_video_lora_gives_the_same_picture_and_leaves_no_bit_behind(video: WanEngine) -> None:
    plain = frames(video)
    first, *others = (frames(video, loras=asked(f"wan_{name}")) for name in WAN_SPELLINGS)
    assert abs(first - plain).mean() > 1
    assert all(abs(other - first).max() <= 1 for other in others)
    assert (frames(video) == plain).all()


def test_changes_of_biases_and_norms_are_not_left_out(video: WanEngine) -> None:
    plain, transformer = frames(video), video._pipeline.transformer
    norm = transformer.get_submodule("blocks.1.norm2").weight.clone()
    assert (frames(video, loras=asked("wan_diffs", 0.5)) != plain).any()
    torch.testing.assert_close(transformer.get_submodule("blocks.1.norm2").weight, norm + 0.15)
    assert (frames(video) == plain).all()


def test_a_clip_between_given_frames_wears_the_lora_too(video: WanEngine) -> None:
    grey = Picture((PICTURE.width, PICTURE.height), b"\x80" * (PICTURE.width * PICTURE.height * 3))
    guide = Guide("frames", weight=1.0, pictures={"first_frame": grey})
    wishes: dict[str, Any] = {"media": "video", "frames": 5, "guide": guide}
    plain = frames(video, **wishes)
    assert abs(frames(video, **wishes, loras=asked("wan_peft")) - plain).mean() > 1
    assert (frames(video, **wishes) == plain).all()


def fused_by_peft(pipeline: StableDiffusionXLLoraLoaderMixin, tensors: Tensors, strength: float) -> Tensors:
    pipeline.load_lora_weights(dict(tensors), adapter_name="one")
    pipeline.fuse_lora(lora_scale=strength, adapter_names=["one"])
    pipeline.unload_lora_weights()
    state: Tensors = pipeline.unet.state_dict()
    return state


@pytest.mark.parametrize("name", ["peft", "kohya", "kohya_original"])
@pytest.mark.filterwarnings("ignore")
def test_what_is_merged_is_what_the_library_fuses(engine: SdxlEngine, folder: Path, name: str) -> None:
    checkpoint = folder / sdxl.CHECKPOINT
    theirs = load.load_pipeline(checkpoint, load.config_for(checkpoint), "cpu")
    fused = fused_by_peft(theirs, SDXL_SPELLINGS[name](layers(theirs.unet, UNET)), 0.7)
    engine._merged.wear(asked(name, 0.7), Watch())
    ours = engine._pipeline.unet.state_dict()
    assert ours.keys() == fused.keys()
    for key, tensor in fused.items():
        torch.testing.assert_close(ours[key], tensor, rtol=1e-5, atol=1e-6)
    engine._merged.wear((), Watch())


def test_the_fast_layers_see_a_lora_and_its_end(engine: SdxlEngine, folder: Path) -> None:
    other = SdxlEngine(folder / sdxl.CHECKPOINT, device="cpu", loras=engine._merged._shelf)
    other.load(Watch())
    fast.hasten(other._pipeline)
    plain = pixels(other)
    assert abs(pixels(other, loras=asked("kohya")) - pixels(engine, loras=asked("kohya"))).max() <= 2
    assert (pixels(other) == plain).all()


def test_the_result_depends_on_the_strengths_and_not_on_what_was_worn_before(engine: SdxlEngine) -> None:
    half = pixels(engine, loras=asked("peft", 0.5))
    for loras in (asked("kohya", 2.0), asked("words"), asked("peft"), (*asked("words"), *asked("kohya"))):
        assert (pixels(engine, loras=loras) != half).any()
    assert (pixels(engine, loras=asked("peft", 0.5)) == half).all()


def test_strength_nothing_is_no_lora(engine: SdxlEngine) -> None:
    assert (pixels(engine, loras=asked("peft", 0.0)) == pixels(engine)).all()


def test_the_same_lora_for_the_next_job_is_not_merged_again(engine: SdxlEngine) -> None:
    watch = Watch()
    engine.generate(replace(PARAMS, steps=2, loras=asked("peft")), Watch())
    engine.generate(replace(PARAMS, steps=2, loras=asked("peft")), watch)
    assert "lora" not in watch.timings


def refused(engine: SdxlEngine, name: str) -> Rejected:
    with pytest.raises(Rejected) as caught:
        engine.generate(replace(PARAMS, steps=2, loras=asked(name)), Watch())
    return caught.value


def test_a_file_that_is_another_one_is_not_loaded(engine: SdxlEngine, folder: Path) -> None:
    plain = pixels(engine)
    offered: Any = engine._merged._shelf.offered
    offered["swapped"] = offer(folder, "swapped", {"unet.conv_in.diff": torch.zeros(32, 4, 3, 3)}, "sdxl")
    (folder / "swapped.safetensors").write_bytes((folder / "kohya.safetensors").read_bytes())
    offered["lost"] = replace(offered["swapped"], file="lost.safetensors")
    for name in ("swapped", "lost"):
        error = refused(engine, name)
        assert (error.sentence, error.code) == ("This LoRA is not available at the moment.", "failed")
    assert (pixels(engine) == plain).all()


UNFIT: dict[str, Tensors] = {
    "a module that is not there": {"unet.blocks.7.diff": torch.zeros(4)},
    "another size": {"unet.conv_in.diff": torch.zeros(8, 4, 3, 3)},
    "another rank": {
        f"unet.{ATTENTION}.lora_A.weight": torch.zeros(4, 64),
        f"unet.{ATTENTION}.lora_B.weight": torch.zeros(64, 8),
    },
    "one half": {f"unet.{ATTENTION}.lora_A.weight": torch.zeros(4, 64)},
    "a kind that is not known": {f"unet.{ATTENTION}.lokr_w1": torch.zeros(4, 4)},
    "half of it fits": {
        f"unet.{ATTENTION}.diff": torch.ones(64, 64),
        "unet.conv_out.diff": torch.ones(1, 1),
    },
}


@pytest.mark.parametrize("tensors", UNFIT.values(), ids=UNFIT.keys())
def test_a_lora_that_does_not_fit_is_refused_whole(engine: SdxlEngine, folder: Path, tensors: Tensors) -> None:
    base = weights_of(engine._pipeline.unet)
    offered: Any = engine._merged._shelf.offered
    offered["unfit"] = offer(folder, "unfit", tensors, "sdxl")
    assert refused(engine, "unfit").sentence == "This LoRA does not fit the model."
    assert all(torch.equal(tensor, base[key]) for key, tensor in engine._pipeline.unet.state_dict().items())


def test_a_stop_in_the_middle_leaves_the_base_alone(engine: SdxlEngine) -> None:
    plain = pixels(engine)

    def stop(watch: Watch) -> None:
        if watch.current == "lora" and watch.done == 2:
            watch.abort(Interrupted())

    with pytest.raises(Interrupted):
        engine.generate(replace(PARAMS, steps=2, loras=asked("kohya")), Watch(on_step=stop))
    assert (pixels(engine) == plain).all()


def test_what_is_no_safetensors_file_is_unfit() -> None:
    for data in (b"", b"PK\x03\x04 a pickle", b"\xff" * 64):
        with pytest.raises(Unfit):
            read(data)
