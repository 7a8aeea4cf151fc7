"""What files say of themselves in words, as other tools read it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from workers.safety.mark_text import GENERATOR, NAMESPACE, SOURCE_TYPE, VERSION, Making, parameters, xmp

MADE = Making(
    job_id="b91f0000-0000-4000-8000-000000000001",
    seed=7,
    width=1024,
    height=1024,
    frames=1,
    steps=15,
    guidance=6.0,
    sampler="unipc",
    model="lustify_sdxl",
    model_hash="0123456789abcdef" * 4,
)
PROMPTED = replace(MADE, prompt="a red bicycle, by the sea", negative_prompt="blurry")
FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""How AUTOMATIC1111 takes the last line apart."""


def fields(text: str) -> dict[str, str]:
    return dict(FIELD.findall(text.splitlines()[-1]))


def test_image_tools_find_the_settings_in_the_last_line():
    assert fields(parameters(MADE)) == {
        "Steps": "15",
        "Sampler": "UniPC",
        "CFG scale": "6",
        "Seed": "7",
        "Size": "1024x1024",
        "Model hash": "0123456789",
        "Model": "lustify_sdxl",
        "Job id": MADE.job_id,
        "Version": f"{GENERATOR} {VERSION}",
    }


def test_prompts_stand_before_them_where_they_are_given():
    prompt, negative, _ = parameters(PROMPTED).splitlines()
    assert (prompt, negative) == ("a red bicycle, by the sea", "Negative prompt: blurry")
    assert len(parameters(MADE).splitlines()) == 1


@pytest.mark.parametrize("name", ['a "b", c: d', "two\nlines", "x, Seed: 8"])
def test_a_name_cannot_pretend_to_be_another_field(name):
    found = fields(parameters(replace(MADE, model=name)))
    assert found["Seed"] == "7"
    assert found["Model"].startswith('"')


def test_what_containers_cannot_hold_is_left_out():
    text = parameters(replace(MADE, prompt="half \ud800 and \0zero"))
    assert text.encode().decode().startswith("half ? and zero\n")


def test_a_clip_says_how_many_frames_it_has():
    assert fields(parameters(replace(MADE, frames=81)))["Frames"] == "81"


def test_the_packet_says_that_a_model_made_it_and_which_job():
    body = xmp(replace(MADE, model="a <b> & c"))
    tree = ElementTree.fromstring(body[body.index("<x:") : body.index("<?xpacket end")])
    said = {element.tag.partition("}")[2]: element.text for element in tree.iter() if element.text}
    assert said == {
        "DigitalSourceType": SOURCE_TYPE,
        "CreatorTool": f"{GENERATOR} {VERSION}",
        "JobId": MADE.job_id,
        "Seed": "7",
        "Model": "a <b> & c",
        "ModelHash": MADE.model_hash,
    }
    assert f"{{{NAMESPACE}}}Seed" in {element.tag for element in tree.iter()}


def test_the_packet_never_holds_a_prompt():
    assert "bicycle" not in xmp(PROMPTED)


def test_an_unknown_hash_is_not_mentioned():
    assert "hash" not in (parameters(replace(MADE, model_hash=None)) + xmp(replace(MADE, model_hash=None))).lower()


def test_the_version_is_the_projects():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
