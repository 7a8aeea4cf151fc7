"""The settings as far as they are right, for commands that look at everything in spite of what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workers.errors import Misconfigured
from workers.settings import Settings, load_settings

UNKNOWN = "https://unknown.invalid"


@dataclass(frozen=True, slots=True)
class Known:
    """`wrong` are the fields that are missing or wrong; in `settings` they have their defaults or none at all."""

    settings: Settings
    wrong: frozenset[str]
    problems: tuple[str, ...]
    exit_code: int = 1

    def has(self, *fields: str) -> bool:
        return self.wrong.isdisjoint(fields)


def known_settings() -> Known:
    try:
        return Known(load_settings(), frozenset(), ())
    except Misconfigured as error:
        wrong = _wrong_fields()
        settings = Settings(**{field: _default(field) for field in wrong})
        return Known(settings, wrong, tuple(error.problems), error.exit_code)


def _wrong_fields() -> frozenset[str]:
    from pydantic import ValidationError

    try:
        Settings()
    except ValidationError as error:
        return frozenset(str(problem["loc"][0]).lower() for problem in error.errors())
    return frozenset()


def _default(field: str) -> Any:
    declared = Settings.model_fields[field]
    return UNKNOWN if declared.is_required() else declared.get_default()
