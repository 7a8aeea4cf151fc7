"""Records on disk and in redis that workers of another release may have written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def known(noun: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that this release has a field for: a later one may have written more."""
    names = {field.name for field in fields(noun)}
    return {name: value for name, value in record.items() if name in names}
