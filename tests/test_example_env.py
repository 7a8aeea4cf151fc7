"""`config/example.env` names every variable that the code reads, and no other."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.settings import Settings, load_settings
from workers.supervision.environment import worker_environment

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = (ROOT / "config" / "example.env").read_text().splitlines()
SOURCES = [*ROOT.glob("*.py"), *ROOT.glob("workers/**/*.py")]
VARIABLE = re.compile(r"(#?)([A-Z][A-Z0-9_]+)=(.*)")
READERS = ("os.environ.get", "os.environ.pop", "os.getenv")
REQUIRED = ["SUPABASE_URL", "SUPABASE_SERVICE_KEY", "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"]


def lines() -> list[tuple[int, str, str, str]]:
    """Line number, `#` where the line is switched off, name and value of each variable."""
    found = ((number, VARIABLE.fullmatch(line)) for number, line in enumerate(EXAMPLE))
    return [(number, *match.groups()) for number, match in found if match]


def shown() -> list[str]:
    return [name for _, _, name, _ in lines()]


def switched_on() -> dict[str, str]:
    return {name: value for _, off, name, value in lines() if not off}


def constants() -> dict[str, str]:
    """`module.NAME` -> its text, for every constant of every module."""
    found = {}
    for file in SOURCES:
        for node in ast.parse(file.read_text()).body:
            match node:
                case ast.Assign(targets=[ast.Name(name)], value=ast.Constant(str(text))):
                    found[f"{file.stem}.{name}"] = text
    return found


CONSTANTS = constants()


def meant(node: ast.expr, module: str) -> str:
    """The text of an expression that names a variable."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    name = ast.unparse(node)
    return CONSTANTS[name if "." in name else f"{module}.{name}"]


def reads(tree: ast.AST) -> Iterator[ast.expr]:
    """Whatever names a variable of the environment where one is read."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=function, args=[name, *_]) if ast.unparse(function) in READERS:
                yield name
            case ast.Subscript(value=mapping, slice=name, ctx=ast.Load()) if ast.unparse(mapping) == "os.environ":
                yield name
            case ast.Compare(left=name, comparators=[mapping]) if ast.unparse(mapping) == "os.environ":
                yield name
            case ast.keyword(arg="envvar", value=name):
                yield name


def read_by_name() -> set[str]:
    return {meant(name, file.stem) for file in SOURCES for name in reads(ast.parse(file.read_text()))}


def read_by_settings() -> set[str]:
    return {name.upper() for name in Settings.model_fields}


def left_to_the_operator() -> set[str]:
    """What workers are given only where the operator has not set it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            patch.delenv(name)
        given = worker_environment(2)
        for name in given:
            patch.setenv(name, "the operator's")
        return {name for name in given if worker_environment(2)[name] == "the operator's"}


def test_it_names_what_the_code_reads_and_nothing_else():
    assert set(shown()) == read_by_name() | read_by_settings() | left_to_the_operator()


def test_no_variable_is_named_twice():
    assert len(shown()) == len(set(shown()))


def test_every_variable_has_a_comment_of_its_own():
    for number, _, name, _ in lines():
        assert EXAMPLE[number - 1].startswith("# "), name


def test_the_required_ones_come_first():
    assert shown()[:4] == REQUIRED


def test_it_holds_no_true_key():
    for _, _, name, value in lines():
        assert not value or not name.endswith(("_KEY", "_TOKEN", "_SECRET")) or value.startswith("your-"), name


def test_a_process_started_with_it_has_the_defaults(monkeypatch):
    for name in read_by_settings() | {"SUPABASE_SERVICE_ROLE_KEY"}:
        monkeypatch.delenv(name, raising=False)
    for name in REQUIRED:
        monkeypatch.setenv(name, switched_on()[name])
    defaults = load_settings()
    for name, value in switched_on().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == defaults
