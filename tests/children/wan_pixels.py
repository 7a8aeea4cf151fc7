"""Load the video model from a folder and make a picture and a clip: print their hash, and whether it converted."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

from wan_support import PICTURE, forbid_network

from workers import garbage
from workers.engines.wan import WanEngine
from workers.watch import Watch

garbage.search_seldom()
forbid_network(setattr)
engine, watch, digest = WanEngine(Path(sys.argv[1]), device="cpu"), Watch(), hashlib.sha256()
engine.load(watch)
for frames in (1, 5):
    for output in engine.generate(replace(PICTURE, frames=frames), Watch()):
        digest.update(output.frames.tobytes())
print(json.dumps({"pixels": digest.hexdigest(), "converted": "convert" in watch.timings}))
