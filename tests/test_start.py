"""A start imports what is used and no more, and is not held up by Python's search for garbage."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from workers import garbage

ROOT = Path(__file__).resolve().parent.parent
UNUSED = ("peft", "imwatermark", "scipy.stats", "scipy.optimize")
STARTED = f"""
import collections, json, statistics, sys
opened = collections.Counter()
sys.addaudithook(lambda event, found: event == "open" and opened.update([str(found[0])]))
from workers import garbage
garbage.search_seldom()
from workers.card import loader
from workers.engines.qwen import engine as qwen
from workers.engines.sdxl import load as sdxl
from workers.engines.wan import pipeline as wan
libraries = [*qwen.LIBRARIES, *sdxl.LIBRARIES, *wan.LIBRARIES]
loader.load([], "cpu", None, None, libraries)
listed = [times for name, times in opened.items() if "transformers/models/" in name and name.endswith(".py")]
unused = [name for name in {UNUSED} if name in sys.modules]
print(json.dumps(dict(unused=unused, all=len(listed) > 1000, times=statistics.median(listed))))
"""


def printed(code: str) -> object:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.pipelines
def test_what_no_engine_uses_is_not_imported_and_what_there_is_is_listed_once() -> None:
    assert printed(STARTED) == {"unused": [], "all": True, "times": 1}


def test_a_process_that_settled_looks_no_further_at_what_is_there_and_on_as_usual() -> None:
    code = "import gc, json; from workers import garbage; garbage.search_seldom(); seldom = gc.get_threshold()[0];"
    code += (
        "garbage.keep_what_is_there(); print(json.dumps([seldom, gc.get_freeze_count() > 1000, gc.get_threshold()]))"
    )
    assert printed(code) == [garbage.AT_START, True, list(gc.get_threshold())]
