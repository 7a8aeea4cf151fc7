"""The files of the operators' page, as they lie in the repository."""

from __future__ import annotations

import re

import pytest

from workers.ops.routes import PAGE
from workers.watch import ORDER

FILES = sorted(PAGE.iterdir())
NAMESPACE = "http://www.w3.org/2000/svg"
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser")


def text(name: str) -> str:
    return (PAGE / name).read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_names_another_host(file):
    assert "//" not in re.sub(r"^\s*//.*|\s// .*", "", file.read_text().replace(NAMESPACE, ""), flags=re.MULTILINE)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_script_turns_text_into_markup(file):
    assert not MARKUP.search(file.read_text())


def test_the_document_has_no_script_or_style_of_its_own():
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", text("index.html"))


def test_every_phase_of_a_job_has_its_place_on_the_page():
    making, order = (re.search(rf"const {name} = (.*);", text("words.js"))[1] for name in ("MAKING", "ORDER"))
    assert [*re.findall(r"\w+", making), *re.findall(r'"(\w+)"', order)[2:]] == list(ORDER)
    for phase in ORDER:
        assert f"[data-phase={phase}]" in text("page.css")
