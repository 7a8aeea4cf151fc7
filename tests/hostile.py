"""The table of hostile addresses, spelled out for one user of one project."""

from __future__ import annotations

import tomllib
from pathlib import Path

HOST = "project.supabase.co"
USER = "11111111-2222-4333-8444-555555555555"
OTHER = "99999999-8888-4777-8666-555555555555"
FOLDER = f"/storage/v1/object/sign/pictures/{USER}"

_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _filled(text: str) -> str:
    for word, value in {"FOLDER": FOLDER, "USER": USER, "OTHER": OTHER, "HOST": HOST}.items():
        text = text.replace(word, value)
    return text


URLS = (
    *(f"https://{host}{FOLDER}/a.png" for host in _TABLE["hosts"]),
    *(f"{scheme}://{HOST}{FOLDER}/a.png" for scheme in _TABLE["schemes"]),
    *(f"https://{HOST}{_filled(place)}" for place in _TABLE["places"]),
    *map(_filled, _TABLE["whole"]),
    f"https://{HOST}{FOLDER}/{'a' * 3000}.png",
)
ADDRESSES = tuple(_TABLE["addresses"])
PUBLIC_ADDRESSES = tuple(_TABLE["public"])
