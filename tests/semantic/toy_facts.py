"""What was measured of the shipped toys, and the thresholds set from it."""

from __future__ import annotations

import tomllib
from pathlib import Path

MEASURED = tomllib.loads(Path(__file__).with_name("measured.toml").read_text(encoding="utf-8"))
