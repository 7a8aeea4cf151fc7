"""Models are built without memory for their weights, and given tensors that are on the device already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def build(model_class: Any, folder: Path) -> Any:
    """A model of diffusers or transformers by the `config.json` in a folder, its parameters without data.

    Its buffers, which no file holds, have theirs. No numbers are drawn for what has no memory: torch does this in
    Python, and it takes longer than all the rest. Raises `OSError` and `ValueError` for what is no configuration.
    """
    from accelerate import init_empty_weights
    from transformers.initialization import no_init_weights

    with init_empty_weights(include_buffers=False), no_init_weights():
        if hasattr(model_class, "load_config"):
            return model_class.from_config(model_class.load_config(folder, local_files_only=True))
        return model_class(model_class.config_class.from_pretrained(folder, local_files_only=True))


def fill(model: Any, tensors: Mapping[str, torch.Tensor], device: str) -> list[str]:
    """Make these tensors the model's weights, without copying them, and return the names of those that are missing.

    What the model has no place for is left out. Raises `ValueError` for a tensor of another shape.
    """
    for name, wanted in model.state_dict().items():
        if name in tensors and tensors[name].shape != wanted.shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, not {tuple(wanted.shape)}")
    model.load_state_dict(tensors, strict=False, assign=True)
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    missing = sorted(name for name, parameter in model.named_parameters() if parameter.is_meta)
    if not missing:
        model.to(device).eval()
    return missing
