"""A video model of a few hundred kilobytes, built from the true classes: random weights, real file names and layouts.

81 frames at 64*112 take seconds on two cores, so that tests and the demo run what production runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.card.weights import make_readable
from workers.engines.wan.names import TRANSFORMER_NAMES, Renames, original_name
from workers.settings import CONFIG_DIR

if TYPE_CHECKING:
    from torch import Tensor, nn

Sizes = Mapping[str, Mapping[str, Any]]
SIZES: Sizes = {
    "transformer": {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 48, "text_dim": 32},
    "vae": {"base_dim": 8},
    "text_encoder": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4, "num_layers": 2, "vocab_size": 512},
}
"""What differs from the shipped configuration of the real model."""

GAINS: Mapping[str, float] = {
    "decoder.conv_out.weight": 3.0,
    "proj_out.weight": 4.0,
    "condition_embedder.text_embedder.linear_2.weight": 3.0,
    "vace_patch_embedding.weight": 16.0,
}
"""Random weights paint grey whatever is asked; with these, pictures have contrast and prompt and solver show."""

SENTENCES = (
    "a red bicycle leaning on a white wall, soft morning light",
    "a lighthouse at dusk above a calm sea, wide shot",
    "two dogs running along a quiet beach, smooth motion, stable camera",
    "a bowl of oranges on a wooden table by the window",
    "blurry, low quality, worst quality, watermark, distorted hands",
    "the quick brown fox jumps over the lazy dog 0 1 2 3 4 5 6 7 8 9",
)

FOLDER = "wan2.1-t2v-1.3b"
VACE_FOLDER = "wan2.1-vace-1.3b-diffusers"
VACE_SIZES: Mapping[str, Any] = {"vace_layers": [0, 1], "vace_in_channels": 96}
VAE_NAMES: Renames = (
    (r"^quant_conv", "conv1"),
    (r"^post_quant_conv", "conv2"),
    (r"\.conv_in\.", ".conv1."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"^encoder\.down_blocks\.", "encoder.downsamples."),
    (r"^decoder\.up_blocks\.0\.upsamplers\.0\.", "decoder.upsamples.3."),
    (r"^decoder\.up_blocks\.1\.upsamplers\.0\.", "decoder.upsamples.7."),
    (r"^decoder\.up_blocks\.2\.upsamplers\.0\.", "decoder.upsamples.11."),
    *(
        (rf"^decoder\.up_blocks\.{block}\.resnets\.{resnet}\.", f"decoder.upsamples.{4 * block + resnet}.")
        for block in range(4)
        for resnet in range(3)
    ),
    (r"(samples\.\d+|middle\.[02])\.norm1\.", r"\1.residual.0."),
    (r"(samples\.\d+|middle\.[02])\.conv1\.", r"\1.residual.2."),
    (r"(samples\.\d+|middle\.[02])\.norm2\.", r"\1.residual.3."),
    (r"(samples\.\d+|middle\.[02])\.conv2\.", r"\1.residual.6."),
    (r"\.conv_shortcut\.", ".shortcut."),
)
TEXT_ENCODER_NAMES: Renames = (
    (r"^shared\.", "token_embedding."),
    (r"^encoder\.final_layer_norm\.", "norm."),
    (r"^encoder\.block\.", "blocks."),
    (r"\.layer\.0\.layer_norm\.", ".norm1."),
    (r"\.layer\.1\.layer_norm\.", ".norm2."),
    (r"\.layer\.0\.SelfAttention\.relative_attention_bias\.", ".pos_embedding.embedding."),
    (r"\.layer\.0\.SelfAttention\.", ".attn."),
    (r"\.layer\.1\.DenseReluDense\.wi_0\.", ".ffn.gate.0."),
    (r"\.layer\.1\.DenseReluDense\.wi_1\.", ".ffn.fc1."),
    (r"\.layer\.1\.DenseReluDense\.wo\.", ".ffn.fc2."),
)


def write(folder: Path, seed: int = 0) -> None:
    """Write the authors' layout below `folder`, a MODEL_ROOT, and in it the configuration of the small sizes."""
    root = folder / FOLDER
    save(root, *_models(seed))
    write_tokenizer(root / "google" / "umt5-xxl")
    write_config(root / "config")


def save(root: Path, transformer: nn.Module, vae: nn.Module, text_encoder: nn.Module) -> None:
    """The three networks as their authors' files in `root`, the text encoder in bf16."""
    import torch
    from safetensors.torch import save_file

    root.mkdir(parents=True, exist_ok=True)
    save_file(_originals(transformer, TRANSFORMER_NAMES), root / "diffusion_pytorch_model.safetensors")
    torch.save(_originals(vae, VAE_NAMES), root / "Wan2.1_VAE.pth")
    encoder = {name: tensor.bfloat16() for name, tensor in _originals(text_encoder, TEXT_ENCODER_NAMES).items()}
    torch.save(encoder, root / "models_t5_umt5-xxl-enc-bf16.pth")
    (root / "diffusion_pytorch_model.safetensors").chmod(0o644)


def write_diffusers(folder: Path, seed: int = 0) -> None:
    """The same weights in the layout of the diffusers library, in fp32 as the public one is."""
    root = folder / FOLDER
    transformer, vae, text_encoder = _models(seed)
    write_config(root)
    transformer.save_pretrained(root / "transformer")
    vae.save_pretrained(root / "vae")
    text_encoder.save_pretrained(root / "text_encoder")
    write_tokenizer(root / "tokenizer")


def write_vace(folder: Path, config: Path | None = None, seed: int = 0) -> None:
    """VACE's transformer below `folder`, a MODEL_ROOT, for a video model whose transformer has this `config.json`."""
    from diffusers import WanVACETransformer3DModel

    with _seeded(seed):
        wanted = {**(config_of("transformer") if config is None else json.loads(config.read_text())), **VACE_SIZES}
        transformer = WanVACETransformer3DModel.from_config(wanted)
    _tune(transformer, frozenset(WanVACETransformer3DModel._keep_in_fp32_modules))
    transformer.save_pretrained(folder / VACE_FOLDER / "transformer")
    make_readable(folder / VACE_FOLDER)


def _models(seed: int) -> tuple[Any, Any, Any]:
    """Transformer, VAE and text encoder. Values are such that bf16 holds them, but for what is kept in fp32."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    with _seeded(seed):
        transformer = WanTransformer3DModel.from_config(config_of("transformer"))
        vae = AutoencoderKLWan.from_config(config_of("vae"))
        text_encoder = UMT5EncoderModel(UMT5Config(**config_of("text_encoder")))
    kept = frozenset(WanTransformer3DModel._keep_in_fp32_modules)
    for model in (transformer, vae, text_encoder):
        _tune(model, kept if model is transformer else frozenset())
    return transformer, vae, text_encoder


def _tune(model: nn.Module, kept_in_fp32: frozenset[str]) -> None:
    """Apply the gains and round to what bf16 holds, so that a conversion loses nothing."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(GAINS.get(name, 1.0))
            if not kept_in_fp32 & set(name.split(".")):
                parameter.copy_(parameter.bfloat16())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _originals(model: nn.Module, renames: Renames) -> dict[str, Tensor]:
    """The model's tensors under their authors' names. Tied copies are left out."""
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "encoder.embed_tokens.weight"}
    return {original_name(name, renames): tensor.contiguous() for name, tensor in state.items()}


def config_of(component: str, sizes: Sizes = SIZES) -> dict[str, Any]:
    """The shipped configuration of a component with other sizes."""
    shipped: dict[str, Any] = json.loads((CONFIG_DIR / "wan" / component / "config.json").read_text())
    return {**shipped, **sizes[component]}


def write_config(folder: Path, sizes: Sizes = SIZES) -> None:
    shutil.copytree(CONFIG_DIR / "wan", folder, dirs_exist_ok=True)
    for component in sizes:
        (folder / component / "config.json").write_text(json.dumps(config_of(component, sizes), indent=2))


def write_tokenizer(folder: Path, sentences: Sequence[str] = SENTENCES * 3, vocabulary: int = 256) -> None:
    """A sentencepiece model learned from a few sentences, with the special tokens where umT5 has them."""
    import sentencepiece
    from transformers import T5Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "spiece.model").open("wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocabulary,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    T5Tokenizer.from_pretrained(folder).save_pretrained(folder)
