"""Records on disk and in redis that workers of another release may have written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any


def known(noun: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that this release has a field for: a later one may have written more."""
    names = {field.name for field in fields(noun)}
    return {name: value for name, value in record.items() if name in names}


def write(path: Path, record: Any) -> None:
    """As JSON, whole or not at all: a reader never sees half of it. One writer per path. Raises `OSError`."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(record))
    new.replace(path)
