"""What of the settings the operator's view depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.job import Preset
from workers.settings import Settings
from workers.supervision.wear import GIB


@dataclass(frozen=True, slots=True)
class Terms:
    """`price` is that of the machine for an hour, `ceiling` how many bytes of the card both workers may take up (0:
    no limit), `submits` whether jobs may be queued from the page, `pictures` whether it shows what they delivered,
    `folder` where history is kept."""

    host: str
    presets: Mapping[str, Preset]
    price: float
    ceiling: int
    submits: bool
    pictures: bool
    folder: Path


def terms_of(settings: Settings, presets: Mapping[str, Preset]) -> Terms:
    return Terms(
        host=settings.worker_name,
        presets=presets,
        price=settings.pod_price,
        ceiling=round(settings.card_ceiling_gb * GIB),
        submits=settings.ops_submit,
        pictures=settings.ops_pictures,
        folder=settings.ops_folder,
    )
