"""Checkpoints of the true sizes with random weights, written as fast as a disk takes them, in the layout of a volume.

The numbers are drawn on the card, where there is one: 37 GB of them take a processor minutes.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import torch

from bench.qwen import TRUE
from workers.card import weights
from workers.card.stored import DTYPES
from workers.engines.qwen.snapshot import find_snapshot
from workers.engines.wan import originals
from workers.engines.wan.convert import kept_in_fp32
from workers.settings import CONFIG_DIR
from workers.tiny import qwen as tiny_qwen
from workers.tiny import sdxl as tiny_sdxl
from workers.tiny import wan as tiny_wan

SCALE = 0.02
"""Deviation of the weights: small enough that nothing overflows 16 bits."""
NORMED, FAINT = 1.0, 0.12
"""The same for the last norm of a VAE that writes pixels, which makes one size of whatever comes, and for the sum over
all that its last layer reads: values vary by two to ten grey levels. Much less is one colour, and with three times as
much half of a picture differs as noise does; workers make both again."""

CODES = {getattr(torch, name): code for code, name in DTYPES.items()}
WRITERS = 8

State = Mapping[str, torch.Tensor]
"""Tensors without data, by name."""


def sdxl(folder: Path, device: str) -> None:
    with torch.device("meta"):
        state = tiny_sdxl.original_layout(tiny_sdxl.models(CONFIG_DIR / "sdxl", seed=0))
    save(folder / tiny_sdxl.CHECKPOINT, state, lambda name: torch.float16, device)


def wan(folder: Path, device: str) -> None:
    root = folder / tiny_wan.FOLDER
    shutil.copytree(CONFIG_DIR / "wan", root)
    tiny_wan.write_tokenizer(root / "tokenizer")
    for component in originals.COMPONENTS:
        model = component.skeleton(CONFIG_DIR / "wan")
        kept = kept_in_fp32(model)
        state = {name: tensor for name, tensor in model.state_dict().items() if name != originals.TIED}
        save(
            root / component.folder / f"{component.weights}.safetensors",
            state,
            lambda name, kept=kept: torch.float32 if kept & set(name.split(".")) else torch.bfloat16,
            device,
        )


def qwen(folder: Path, device: str) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tiny_qwen.write(folder)  # for its tokenizer and the layout around it
    snapshot = find_snapshot(folder, "instruct")
    known = {
        name: json.loads((snapshot / "config.json").read_text())[name] for name in ("eos_token_id", "pad_token_id")
    }
    config = Qwen2Config(**TRUE, **known, bos_token_id=None)
    config.save_pretrained(snapshot)
    with torch.device("meta"):
        state = Qwen2ForCausalLM(config).state_dict()
    save(snapshot / "model.safetensors", state, lambda name: torch.bfloat16, device)


WRITE: Mapping[str, Callable[[Path, str], None]] = {"sdxl": sdxl, "wan": wan, "qwen": qwen}
SMALL: Mapping[str, Callable[[Path], None]] = {
    "sdxl": tiny_sdxl.write,
    "wan": tiny_wan.write_diffusers,
    "qwen": tiny_qwen.write,
}


def ready(model: str, folder: Path, device: str, *, small: bool) -> Path:
    """A folder with this model's files, written now where an earlier run left none."""
    home = folder / f"{model}-small" if small else folder / model
    if not home.is_dir():
        new = home.with_name(f".{home.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        if small:
            SMALL[model](new)
        else:
            WRITE[model](new, device)
        new.rename(home)
    return home


def save(path: Path, state: State, dtype: Callable[[str], torch.dtype], device: str) -> None:
    """A safetensors file with random numbers for these tensors, the same each time on a kind of device, by several
    threads: the format's own library writes with one."""
    header, end = {}, 0
    for name, tensor in state.items():
        begin, end = end, end + tensor.numel() * dtype(name).itemsize
        header[name] = {"dtype": CODES[dtype(name)], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    path.parent.mkdir(parents=True, exist_ok=True)

    def draw(name: str) -> None:
        numbers = torch.Generator(device).manual_seed(crc32(name.encode()))
        drawn = torch.empty(state[name].shape, dtype=dtype(name), device=device)
        drawn.normal_(0, _deviation(name, state[name].shape), generator=numbers)
        memory, at = drawn.view(-1).view(torch.uint8).cpu().numpy().data, start + header[name]["data_offsets"][0]
        while memory:
            written = os.pwrite(file.fileno(), memory, at)
            memory, at = memory[written:], at + written

    with path.open("wb", buffering=0) as file, ThreadPoolExecutor(WRITERS) as pool:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(start + end)
        list(pool.map(draw, state))


def _deviation(name: str, shape: torch.Size) -> float:
    part, _, layer = name.removeprefix("first_stage_model.").partition(".")
    match part, layer:
        case "decoder", "norm_out.weight" | "norm_out.gamma":
            return NORMED
        case "decoder", "conv_out.weight":
            return FAINT / math.sqrt(math.prod(shape[1:]))
    return SCALE


def evict(home: Path) -> None:
    """Out of the page cache with all files of a folder; what is not on the disk yet has to go there first."""
    for path in home.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fetch(home: Path) -> None:
    """Into the page cache with all weights of a folder."""
    weights.read_ahead(home.rglob("*.safetensors"), lambda done, total: None)
