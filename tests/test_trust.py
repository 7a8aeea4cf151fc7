"""Certificates are read once for all clients of a process, and every client asks for them."""

from __future__ import annotations

import ast
import ssl
from pathlib import Path

import pytest

from workers.trust import trusted

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = ROOT / "workers" / "local"
"""Plain HTTP on this machine."""

CLIENTS = {f"httpx.{name}" for name in ("Client", "AsyncClient", "get", "post", "put", "delete", "request", "stream")}


def clients() -> list[tuple[str, str]]:
    """The file of every client, and whom that trusts."""
    files = [file for file in ROOT.glob("workers/**/*.py") if LOOPBACK not in file.parents]
    calls = [(file, node) for file in files for node in ast.walk(ast.parse(file.read_text())) if is_client(node)]
    return [
        (file.stem, {word.arg: ast.unparse(word.value) for word in call.keywords}.get("verify", ""))
        for file, call in calls
    ]


def is_client(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in CLIENTS


def test_a_server_must_show_a_certificate_of_its_name():
    assert trusted().verify_mode == ssl.CERT_REQUIRED
    assert trusted().check_hostname


def test_there_is_one_store_for_a_process():
    assert trusted() is trusted()


@pytest.mark.parametrize(("file", "trusts"), clients())
def test_every_client_uses_it(file: str, trusts: str):
    assert trusts == "trusted()"
