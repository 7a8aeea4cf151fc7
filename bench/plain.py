"""The three models as their libraries load them: mapped, and moved to the device tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workers.card import gpu
from workers.card.weights import quiet_libraries
from workers.engines.sdxl import load
from workers.tiny.sdxl import CHECKPOINT
from workers.tiny.wan import FOLDER


def sdxl(home: Path, device: str) -> list[Any]:
    quiet_libraries()
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_single_file(
        str(home / CHECKPOINT),
        config=str(load.config_for(home / CHECKPOINT)),
        local_files_only=True,
        dtype=gpu.dtype_for(device, "float16"),
        **load.tokenizers(),
    ).to(device)
    return [pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2]


def wan(home: Path, device: str) -> list[Any]:
    quiet_libraries()
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5EncoderModel

    classes = {"text_encoder": UMT5EncoderModel, "transformer": WanTransformer3DModel, "vae": AutoencoderKLWan}
    dtype = gpu.dtype_for(device, "bfloat16")
    return [known.from_pretrained(home / FOLDER / part, dtype=dtype).to(device) for part, known in classes.items()]


def qwen(home: Path, device: str) -> list[Any]:
    quiet_libraries()
    from transformers import AutoModelForCausalLM

    from workers.engines.qwen.snapshot import find_snapshot

    snapshot = find_snapshot(home, "instruct")
    return [
        AutoModelForCausalLM.from_pretrained(
            snapshot, dtype=gpu.dtype_for(device, "bfloat16"), device_map=device if gpu.on_card(device) else None
        )
    ]


PLAIN: Mapping[str, Callable[[Path, str], list[Any]]] = {"sdxl": sdxl, "wan": wan, "qwen": qwen}
