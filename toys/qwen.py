"""The enhancer toy from nothing to a Hugging Face cache with a base and an Instruct snapshot of the same weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toys import sizes
from toys.loop import Plan, Report, Task, fit
from toys.train_qwen import corpus, enhancer_loss, exchanges
from workers.engines.qwen.snapshot import REPOSITORIES
from workers.tiny import qwen as tiny


def train(folder: Path, device: str, plans: Mapping[str, Plan], seed: int = 0) -> tuple[Any, dict[str, Report]]:
    plan = plans["qwen"]
    tokenizer = tiny.make_tokenizer(corpus(seed), tiny.END, sizes.QWEN_VOCABULARY)
    model = tiny.make_model(tokenizer, seed, sizes.QWEN).to(device)
    task = Task(exchanges(tokenizer, plan.batch, device), enhancer_loss(model))
    report = fit({"model": model}, task, plan, folder, seed)
    return model, {"qwen": report}


def export(model: Any, hf_home: Path, seed: int = 0) -> None:
    """Both snapshots in bfloat16, named by what is in them."""
    import torch

    texts = corpus(seed)
    model = model.cpu().to(torch.bfloat16)
    digest = hashlib.sha1(usedforsecurity=False)
    for tensor in model.state_dict().values():
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    for variant in REPOSITORIES:
        tokenizer = tiny.make_tokenizer(texts, tiny.STOPS[variant], sizes.QWEN_VOCABULARY)
        model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
        tiny.save(hf_home, variant, tokenizer, model, digest.hexdigest())
