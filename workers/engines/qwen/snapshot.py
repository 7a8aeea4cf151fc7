"""Where the enhancer's weights lie in a Hugging Face cache, and whether they are all there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from workers.errors import Misconfigured

Variant = Literal["base", "instruct"]

REPOSITORIES: dict[Variant, str] = {"base": "Qwen/Qwen2.5-7B", "instruct": "Qwen/Qwen2.5-7B-Instruct"}


def pick_snapshot(hf_home: Path, wanted: Literal["auto", "base", "instruct"]) -> tuple[Variant, Path]:
    """The variant to use and its snapshot; "auto" takes Instruct where it is there. Raises `Misconfigured`."""
    if wanted != "auto":
        return wanted, find_snapshot(hf_home, wanted)
    variant: Variant = "instruct" if _snapshots(hf_home, "instruct") else "base"
    return variant, find_snapshot(hf_home, variant)


def find_snapshot(hf_home: Path, variant: Variant) -> Path:
    """The snapshot that `refs/main` names, else the newest. Raises `Misconfigured` where there is none."""
    snapshots = _snapshots(hf_home, variant)
    if not snapshots:
        repository, folder = REPOSITORIES[variant], _folder(hf_home, variant)
        fix = f"On a machine with network: HF_HOME={hf_home} hf download {repository}; or set HF_HOME to where it lies."
        raise Misconfigured([f"{folder} holds no complete snapshot of {repository}. {fix}"])
    main = _folder(hf_home, variant) / "refs" / "main"
    named = main.read_text().strip() if main.is_file() else ""
    return next((s for s in snapshots if s.name == named), snapshots[-1])


def weight_files(snapshot: Path) -> list[Path]:
    """Every file of weights, one or many shards. Raises `Misconfigured` with those that are missing.

    The tokenizer counts too: without its file the library makes up an empty one.
    """
    index = snapshot / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.is_file():
        names = set(json.loads(index.read_text())["weight_map"].values())
    missing = sorted(name for name in names | {"tokenizer.json"} if not (snapshot / name).is_file())
    if missing:
        raise Misconfigured([f"{snapshot / name} is not there. Copy the snapshot again." for name in missing])
    return [snapshot / name for name in sorted(names)]


def _folder(hf_home: Path, variant: Variant) -> Path:
    return hf_home / "hub" / f"models--{REPOSITORIES[variant].replace('/', '--')}"


def _snapshots(hf_home: Path, variant: Variant) -> list[Path]:
    """Oldest first."""
    configs = (_folder(hf_home, variant) / "snapshots").glob("*/config.json")
    return [config.parent for config in sorted(configs, key=lambda config: config.stat().st_mtime)]
