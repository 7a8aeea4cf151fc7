"""Messages as nobody should send them: the true shapes, bent in every way that hypothesis finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from workers.payload import REFERENCE_KEYS, SPELLINGS, decode
from workers.tables import load_presets

SHAPES = [path.read_text() for path in sorted(Path(__file__).with_name("payloads").glob("*.json"))]
JOB = decode(SHAPES[0])["id"]
TYPES = sorted(load_presets())
KEYS = sorted(
    {*SPELLINGS, *SPELLINGS.values(), *REFERENCE_KEYS, "type", "prompt", "config", "metadata", "rating", "tier", "seed"}
    | {"size", "resolution", "width", "height", "sample_steps", "sample_guide_scale", "sample_shift", "sample_solver"}
    | {"frame_num", "num_inference_steps", "guidance_scale", "raw_prompt", "compel_enabled", "compel_weights"}
    | {"content_type", "priority", "consent_id", "data", "", "__class__", "\ud800"}
)

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, -1, 83, 10**15, 10**400, 5e-324, 1e308, float("nan")]),
)
WORDS = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Mn", "So", "Zl"]), max_size=30),
    st.sampled_from(["a red bicycle", "480*832", "1024x1024", "../..", "{}", "unipc", "sfw", "adult", "nan", *TYPES]),
    st.sampled_from(["9" * 5000, "😀" * 5000, "ﷺ" * 1200, "Ω" * 4000]),
    st.sampled_from(["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"]),
)
TEARS = ["", "\\", '"', "}", "\udcff", "\0", "[" * 2000, "1e999"]
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def bent(draw: st.DrawFn) -> dict[str, Any]:
    """A message of a true shape with some of its values, at either depth, replaced, added or gone."""
    message = decode(draw(st.sampled_from(SHAPES)))
    message["type"] = draw(st.sampled_from(TYPES))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.sampled_from([message, *2 * [message.get("config"), message.get("metadata")]]))
        if isinstance(place, dict):
            key = draw(st.sampled_from(KEYS) | st.sampled_from(sorted(place) or ["type"]))
            if draw(st.booleans()):
                place[key] = draw(VALUES)
            else:
                place.pop(key, None)
    return message


@st.composite
def messages(draw: st.DrawFn) -> str:
    """Any envelope around a bent message, sometimes torn, sometimes with other bytes in it."""
    text = json.dumps(draw(st.one_of(*[bent()] * 7, VALUES)), ensure_ascii=draw(st.booleans()))
    for wrap in draw(st.lists(st.sampled_from(["string", "list", "data"]), max_size=2)):
        text = {"string": json.dumps(text), "list": json.dumps([text]), "data": json.dumps({"data": text})}[wrap]
    for _ in range(draw(st.sampled_from([*[0] * 9, 1, 3]))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(TEARS)) + text[at + 1 :]
    return text
