"""A LoRA's bytes become what it adds to each module, in the spellings that trainers use.

A key is a module's name and what it holds of it: `lora_A`/`lora_B`, `lora.down`/`lora.up` or `lora_down`/`lora_up`
with an `alpha`; or `diff` and `diff_b`, which are added to weight and bias as they are. Whatever else a file holds
would be left out silently, so it is refused: DoRA, LoHa and LoKr among others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

KEY = re.compile(
    r"(?P<stem>.+?)\.(?:(?:lora\.|lora_|lora_linear_layer\.)(?P<side>down|up|A|B)(?:\.default)?\.(?P<of>weight|bias)"
    r"|(?P<part>alpha|diff|diff_b))"
)
SIDES = {"A": "down", "B": "up"}
SETTINGS = "lora_adapter_metadata"
"""Where diffusers says in a file's header what it was trained with."""


class Unfit(Exception):
    """The file is no LoRA for this model, or of a kind that is not known here. Says why, for the operator."""


@dataclass(slots=True)
class Change:
    """What a LoRA adds to one module. `alpha` over the rank is what its product counts; 1 where it does not say."""

    parts: dict[str, torch.Tensor] = field(default_factory=dict)
    alpha: float | None = None

    def of_weight(self, weight: torch.Tensor) -> torch.Tensor | None:
        """In float32, on the weight's device and in its shape."""
        import torch

        parts = {name: part.to(weight.device, torch.float32) for name, part in self.parts.items()}
        total = parts.get("diff")
        if "down" in parts and "up" in parts:
            down, up = parts["down"], parts["up"]
            scale = 1.0 if self.alpha is None else self.alpha / len(down)
            product = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape) * scale
            total = product if total is None else total + product
        return total

    def of_bias(self) -> torch.Tensor | None:
        return self.parts.get("diff_b")


def read(data: bytes) -> dict[str, Change]:
    """Stem -> change. Raises `Unfit`."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors, settings = load(data), _settings(data)
    except (SafetensorError, ValueError) as error:
        raise Unfit(f"it is no safetensors file: {error}") from None
    changes: dict[str, Change] = {}
    for key, tensor in tensors.items():
        found = KEY.fullmatch(key)
        if found is None:
            raise Unfit(f"it holds {key[:120]}, which is not known here")
        change = changes.setdefault(found["stem"], Change(alpha=_alpha(found["stem"], settings)))
        if found["part"] == "alpha":
            change.alpha = float(tensor)
        else:
            change.parts[_part(found)] = tensor
    for stem, change in changes.items():
        if not change.parts or ("down" in change.parts) != ("up" in change.parts):
            raise Unfit(f"it holds half of {stem[:120]}")
    return changes


def _part(found: re.Match[str]) -> str:
    if found["side"] is None:
        return found["part"]
    if found["of"] == "bias":
        return "diff_b"
    return SIDES.get(found["side"], found["side"])


def _settings(data: bytes) -> Mapping[str, Any]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    settings = json.loads(header.get("__metadata__", {}).get(SETTINGS, "{}"))
    return settings if isinstance(settings, dict) else {}


def _alpha(stem: str, settings: Mapping[str, Any]) -> float | None:
    """diffusers keeps one alpha for a whole component, and others for modules whose names end in a pattern."""
    component, _, path = stem.partition(".")
    patterns = settings.get(f"{component}.alpha_pattern") or {}
    alpha = next(
        (value for pattern, value in patterns.items() if path.endswith(pattern)),
        settings.get(f"{component}.lora_alpha"),
    )
    return None if alpha is None else float(alpha)
