"""What an adapter saw of a character's picture, kept on the volume: the picture is looked at once."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.errors import Rejected

if TYPE_CHECKING:
    import torch

    from workers.engines.sdxl.adapter import Adapter
    from workers.job import Guide

UNKNOWN = "This character has no reference image yet: send one with the job."


@dataclass(frozen=True, slots=True)
class Seen:
    """Embeddings as `Adapter.see` gives them, and the SHA-256 of the picture they are of."""

    embeds: torch.Tensor
    picture: str


class Characters:
    """One file per user and character below `folder`. It counts for the picture and the weights that it names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def see(self, guide: Guide, adapter: Adapter) -> Seen:
        """From the guide's picture, or from memory. Raises `Rejected` where neither has the character."""
        picture = next(iter(guide.pictures.values()), None)
        known = self._read(guide.character, adapter.name) if guide.character else None
        if known is not None and picture is not None and known.picture != picture.sha256:
            known = None
        if known is not None:
            return known
        if picture is None:
            raise Rejected(UNKNOWN, field="character_id")
        seen = Seen(adapter.see(picture), picture.sha256)
        if guide.character:
            self._write(guide.character, adapter.name, seen)
        return seen

    def _read(self, character: str, adapter: str) -> Seen | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file(character), framework="pt") as file:
                said = file.metadata() or {}
                return Seen(file.get_tensor("embeds"), said["picture"]) if said["adapter"] == adapter else None
        except (OSError, SafetensorError, KeyError):
            return None

    def _write(self, character: str, adapter: str, seen: Seen) -> None:
        """Whole or not at all; of two at once the later stays."""
        from safetensors.torch import save_file

        file = self._file(character)
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{secrets.token_hex(8)}")
        save_file({"embeds": seen.embeds.contiguous()}, new, {"picture": seen.picture, "adapter": adapter})
        os.replace(new, file)

    def _file(self, character: str) -> Path:
        return self._folder / f"{character}.safetensors"
