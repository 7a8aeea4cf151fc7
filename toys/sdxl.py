"""The SDXL toy from nothing to one file with the original key names."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from toys import sizes
from toys.fillers import fillers
from toys.loop import Feed, Loss, Plan, Report, Task, fit
from toys.sdxl_card import CardFeeds
from toys.sdxl_drawn import DrawnFeeds
from toys.sizes import SDXL_SIDE
from toys.text import Texts
from toys.train_sdxl import GUIDANCE, Reader, decoder_loss, denoiser_loss, hearing
from toys.train_vae import vae_loss
from toys.train_words import heads, words_loss
from workers.card.gpu import on_card
from workers.engines.sdxl.load import tokenizers
from workers.tiny import sdxl as tiny

Trained = tuple[dict[str, Any], dict[str, Report]]

ENCODERS = ("text_encoder", "text_encoder_2")


def train(folder: Path, device: str, plans: Mapping[str, Plan], seed: int = 0) -> Trained:
    """All networks, trained in stages whose checkpoints lie in `folder`, and the reports by stage."""
    networks, texts = _networks(seed)
    for network in networks.values():
        network.to(device)
    feeds = _feeds(networks, Reader(texts, fillers("sdxl", "image")), device, seed, folder)
    vae, unet, reports = networks["vae"], networks["unet"], dict[str, Report]()

    def stage(name: str, learners: Any, feed: Callable[[int], Feed], loss: Loss) -> None:
        plan = plans[name]
        reports[name] = fit(learners, Task(feed(plan.batch), loss), plan, folder, seed)

    stage("sdxl_vae_parts", {"vae": vae}, partial(feeds.parts, SDXL_SIDE // 2), vae_loss(vae, device))
    stage("sdxl_vae", {"vae": vae}, partial(feeds.parts, SDXL_SIDE), vae_loss(vae, device))
    pictures = feeds.album()
    rebuilt = {"decoder": vae.decoder, "after": vae.post_quant_conv}
    stage("sdxl_decoder", rebuilt, partial(feeds.slightly_wrong, pictures), decoder_loss(vae, device))
    encoders = [networks[part] for part in ENCODERS]
    reading = heads(sizes.SDXL["unet"]["cross_attention_dim"], sizes.SDXL["text_encoder_2"]["projection_dim"])
    learners = dict(zip(ENCODERS, encoders, strict=True)) | {"reading": reading.to(device)}
    stage("sdxl_words", learners, feeds.said, words_loss(hearing(encoders), reading))
    for name, guidance in (("sdxl_denoiser", 1.0), ("sdxl_guided", GUIDANCE)):
        feed = partial(feeds.noisy, pictures, guidance)
        stage(name, {"unet": unet}, feed, denoiser_loss(unet, guidance))
    vae.register_to_config(scaling_factor=pictures.scale)
    return networks | {"texts": texts}, reports


def export(networks: Mapping[str, Any], root: Path) -> None:
    """The checkpoint and its configuration below `root`, a MODEL_ROOT."""
    import torch
    from safetensors.torch import save_file

    checkpoint = root / tiny.CHECKPOINT
    config = checkpoint.parent / "config"
    vae_sizes = {**sizes.SDXL["vae"], "scaling_factor": networks["vae"].config.scaling_factor}
    tiny.write_config(config, {**sizes.SDXL, "vae": vae_sizes})
    whole = tiny.models(config, seed=0)
    for part, network in whole.items():
        network.load_state_dict(_with_all_tokens(networks[part].cpu().state_dict(), networks["texts"]))
    tensors = tiny.original_layout(whole)
    save_file({key: tensor.to(torch.float16).contiguous() for key, tensor in tensors.items()}, checkpoint)
    checkpoint.chmod(0o644)


def _networks(seed: int) -> tuple[dict[str, Any], Texts]:
    """As configured, but for embeddings of the small vocabulary."""
    import torch

    texts = Texts(list(tokenizers().values()), fillers("sdxl", "image"))
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = {
            part: {**sizes.SDXL[part], "vocab_size": texts.size} for part in ("text_encoder", "text_encoder_2")
        }
        tiny.write_config(Path(folder), {**sizes.SDXL, **vocabulary})
        networks = tiny.models(Path(folder), seed, plain=True)
    torch.manual_seed(seed)
    return networks, texts


def _feeds(networks: Mapping[str, Any], reader: Reader, device: str, seed: int, folder: Path) -> Any:
    if on_card(device):
        return CardFeeds(networks, reader, device, seed)
    return DrawnFeeds(networks, reader, device, seed, folder)


def _with_all_tokens(state: dict[str, Any], texts: Texts) -> dict[str, Any]:
    return {
        name: texts.whole(tensor) if name.endswith("token_embedding.weight") else tensor
        for name, tensor in state.items()
    }
