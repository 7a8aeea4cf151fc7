"""What text encoders give to denoisers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Both prompts, ready for the pipeline. `inputs` are its keywords; `notes` are counts for the job's metadata."""

    inputs: Mapping[str, torch.Tensor]
    notes: Mapping[str, int]
