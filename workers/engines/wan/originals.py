"""The files as the model's authors publish them: where they lie, what their tensors are called elsewhere.

Transformer and VAE are renamed by diffusers' own tables; for the text encoder no package has one, so it is here.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.errors import Misconfigured

if TYPE_CHECKING:
    import torch
    from torch import nn

Tensors = dict[str, "torch.Tensor"]

TOKENIZER = Path("google/umt5-xxl")
SHARED, TIED = "shared.weight", "encoder.embed_tokens.weight"
"""The text encoder's two names for its embedding; only one of them is stored."""

_BLOCK_NAMES: Mapping[str, str] = {
    "norm1.weight": "0.layer_norm.weight",
    "norm2.weight": "1.layer_norm.weight",
    "pos_embedding.embedding.weight": "0.SelfAttention.relative_attention_bias.weight",
    "attn.q.weight": "0.SelfAttention.q.weight",
    "attn.k.weight": "0.SelfAttention.k.weight",
    "attn.v.weight": "0.SelfAttention.v.weight",
    "attn.o.weight": "0.SelfAttention.o.weight",
    "ffn.gate.0.weight": "1.DenseReluDense.wi_0.weight",
    "ffn.fc1.weight": "1.DenseReluDense.wi_1.weight",
    "ffn.fc2.weight": "1.DenseReluDense.wo.weight",
}
_TOP_NAMES: Mapping[str, str] = {
    "token_embedding.weight": SHARED,
    "norm.weight": "encoder.final_layer_norm.weight",
}


@dataclass(frozen=True, slots=True)
class Component:
    """One file of the original layout and the folder it becomes. `weights` is the stem of the files in that folder.

    `skeleton` builds the model without memory from a folder of configurations.
    """

    folder: str
    file: str
    weights: str
    rename: Callable[[Tensors], Tensors]
    skeleton: Callable[[Path], nn.Module]

    def read(self, root: Path) -> Tensors:
        """The file's tensors, mapped from disk rather than read, under diffusers' names."""
        return self.rename(_mapped(root / self.file))


def text_encoder_name(original: str) -> str:
    """The name in transformers of a tensor of the original text encoder; unknown names stay."""
    if original in _TOP_NAMES:
        return _TOP_NAMES[original]
    prefix, _, rest = original.partition(".")
    index, _, name = rest.partition(".")
    if prefix != "blocks" or name not in _BLOCK_NAMES:
        return original
    return f"encoder.block.{index}.layer.{_BLOCK_NAMES[name]}"


def files(root: Path) -> list[Path]:
    """Every file of the original layout, there or not; of the tokenizer those that are there."""
    folder = root / TOKENIZER
    tokenizer = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return [*(root / component.file for component in COMPONENTS), *sorted(tokenizer)]


def missing(root: Path) -> list[str]:
    """One sentence for each file of the original layout that is not there."""
    problems = [
        f"{root / component.file} is not there. Copy the files of Wan 2.1 T2V-1.3B to {root}."
        for component in COMPONENTS
        if not (root / component.file).is_file()
    ]
    if not any((root / TOKENIZER / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        problems.append(
            f"{root / TOKENIZER} has neither tokenizer.json nor spiece.model. Copy the umT5 tokenizer to it."
        )
    return problems


def read_all(root: Path, config: Path) -> dict[str, Tensors]:
    """The tensors of all components by folder, mapped from disk. Raises `Misconfigured` with all that is wrong."""
    problems: list[str] = []
    found: dict[str, Tensors] = {}
    for component in COMPONENTS:
        try:
            found[component.folder] = _fitting(component, root, config)
        except Misconfigured as error:
            problems += error.problems
    if problems:
        raise Misconfigured(problems)
    return found


def _fitting(component: Component, root: Path, config: Path) -> Tensors:
    """Exactly the tensors that the configured model has."""
    wanted = {name: tuple(t.shape) for name, t in component.skeleton(config).state_dict().items() if name != TIED}
    tensors = component.read(root)
    absent = [name for name in wanted if name not in tensors]
    if absent:
        raise Misconfigured(
            [f"{root / component.file} lacks {len(absent)} of {len(wanted)} tensors, {absent[0]} first. Copy it again."]
        )
    other = [name for name, shape in wanted.items() if tuple(tensors[name].shape) != shape]
    if other:
        shapes = f"{other[0]} has shape {tuple(tensors[other[0]].shape)}, not {wanted[other[0]]}"
        raise Misconfigured(
            [f"{root / component.file} does not fit {config}: {shapes}. Put its configuration into {root / 'config'}."]
        )
    return {name: tensors[name] for name in wanted}


def _mapped(path: Path) -> Tensors:
    """Raises `Misconfigured` for what is cut short or no checkpoint. Never runs code out of a pickle."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if not zipfile.is_zipfile(path):
            raise ValueError("no zip archive")
        tensors: Tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (SafetensorError, pickle.UnpicklingError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise Misconfigured(
            [f"{path} is not a whole checkpoint ({reason}). Copy it again and compare its size."]
        ) from None
    return tensors


def _rename_transformer(tensors: Tensors) -> Tensors:
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    renamed: Tensors = convert_wan_transformer_to_diffusers(tensors)
    return renamed


def _rename_vae(tensors: Tensors) -> Tensors:
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    renamed: Tensors = convert_wan_vae_to_diffusers(tensors)
    return renamed


def _rename_text_encoder(tensors: Tensors) -> Tensors:
    return {text_encoder_name(name): tensor for name, tensor in tensors.items()}


def _diffusers_skeleton(class_name: str, folder: str) -> Callable[[Path], nn.Module]:
    def build(config: Path) -> nn.Module:
        import diffusers
        import torch

        model_class: Any = getattr(diffusers, class_name)
        with torch.device("meta"):
            model: nn.Module = model_class.from_config(model_class.load_config(config / folder))
        return model

    return build


def _text_encoder_skeleton(config: Path) -> nn.Module:
    import torch
    from transformers import UMT5Config, UMT5EncoderModel

    with torch.device("meta"):
        model: nn.Module = UMT5EncoderModel(UMT5Config.from_pretrained(config / "text_encoder"))
    return model


COMPONENTS = (
    Component(
        "text_encoder",
        "models_t5_umt5-xxl-enc-bf16.pth",
        "model",
        _rename_text_encoder,
        _text_encoder_skeleton,
    ),
    Component(
        "transformer",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model",
        _rename_transformer,
        _diffusers_skeleton("WanTransformer3DModel", "transformer"),
    ),
    Component(
        "vae",
        "Wan2.1_VAE.pth",
        "diffusion_pytorch_model",
        _rename_vae,
        _diffusers_skeleton("AutoencoderKLWan", "vae"),
    ),
)
