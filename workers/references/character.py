"""What a payload says about a character, whatever it calls it: read by the gate, shown to no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST = 8_000


def texts_of_character(*sources: Mapping[str, Any]) -> str:
    """The texts below every key that begins with `character`, at most so many characters of them."""
    found = [value for source in sources for key, value in source.items() if key.startswith("character")]
    return "\n".join(text for value in found for text in _texts(value))[:MOST]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
