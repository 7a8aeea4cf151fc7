"""The video toy from nothing to its authors' layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from toys import sizes
from toys.bearings import orient
from toys.fillers import Fillers, fillers
from toys.loop import Feed, Loss, Plan, Report, Task, fit
from toys.train_clips import awake, decoder_loss, still_loss
from toys.train_qwen import exchange
from toys.train_wan import Listener, hearing
from toys.train_words import heads, words_loss
from toys.wan_card import CardFeeds
from toys.wan_drawn import DrawnFeeds
from workers.card.gpu import on_card
from workers.engines.wan.originals import COMPONENTS, SHARED, TIED, TOKENIZER
from workers.tiny import wan as tiny

Trained = tuple[dict[str, Any], dict[str, Report]]

SENTENCES = 3000


def train(folder: Path, device: str, plans: Mapping[str, Plan], seed: int = 0) -> Trained:
    """All networks, trained in stages whose checkpoints lie in `folder`, and the reports by stage. Where a video model
    lies in `folder` as its authors publish it, training goes on from that."""
    start = folder / tiny.FOLDER
    networks = {name: network.to(device) for name, network in _begun(start, seed).items()}
    vae, transformer, reports = networks["vae"], networks["transformer"], dict[str, Report]()
    tokens = start / TOKENIZER if start.is_dir() else folder / "tokenizer"
    listener = Listener(networks["text_encoder"], _tokenizer(tokens, seed), device)
    feeds = _feeds(vae, listener, seed, folder)

    def stage(name: str, learners: Any, feed: Callable[[int], Feed], loss: Loss) -> None:
        plan = plans[name]
        reports[name] = fit(learners, Task(feed(plan.batch), loss), plan, folder, seed)

    stage("wan_vae", {"vae": vae}, feeds.stills, still_loss(vae))
    reels = feeds.reels()
    reading = heads(sizes.WAN["text_encoder"]["d_model"]).to(device)
    readers = {"encoder": listener.encoder, "reading": reading}
    stage("wan_words", readers, partial(feeds.said, reels), words_loss(hearing(listener), reading))
    for name, feed, loss in feeds.denoisers(transformer, reels):
        stage(name, {"transformer": transformer}, feed, loss)
    rebuilt = {"decoder": vae.decoder, "before": vae.post_quant_conv}
    stage("wan_decoder", rebuilt, feeds.clips, decoder_loss(vae))
    return networks | {"tokenizer": tokens}, reports


def export(networks: Mapping[str, Any], root: Path) -> None:
    """Weights in bfloat16, but for what the pipeline computes in float32, below `root`, a MODEL_ROOT."""
    import shutil

    vae = networks["vae"]
    measured = {name: list(vae.config[name]) for name in ("latents_mean", "latents_std")}
    folder = root / tiny.FOLDER
    models = [_rounded(networks[name]) for name in ("transformer", "vae", "text_encoder")]
    tiny.save(folder, *models)
    tiny.write_config(folder / "config", {**sizes.WAN, "vae": {**sizes.WAN["vae"], **measured}})
    shutil.copytree(networks["tokenizer"], folder / "google" / "umt5-xxl", dirs_exist_ok=True)


def _begun(start: Path, seed: int) -> dict[str, Any]:
    networks = _networks(seed)
    for component in COMPONENTS if start.is_dir() else ():
        read = component.read(start)
        tied = {TIED: read[SHARED]} if SHARED in read else {}
        networks[component.folder].load_state_dict(read | tied)
    return networks


def _networks(seed: int) -> dict[str, Any]:
    import torch
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(seed)
    text = tiny.config_of("text_encoder", sizes.WAN)
    return {
        "transformer": orient(WanTransformer3DModel.from_config(tiny.config_of("transformer", sizes.WAN))),
        "vae": awake(AutoencoderKLWan.from_config(tiny.config_of("vae", sizes.WAN))),
        "text_encoder": UMT5EncoderModel(UMT5Config(**{**text, "dropout_rate": 0.0})),
    }


def _feeds(vae: Any, listener: Listener, seed: int, folder: Path) -> Any:
    known: Mapping[str, Fillers] = {"video": fillers("wan", "video"), "image": fillers("wan", "image")}
    if on_card(listener.device):
        return CardFeeds(vae, listener, known, seed)
    return DrawnFeeds(vae, listener, known, seed, folder)


def _tokenizer(folder: Path, seed: int) -> Any:
    """Learned from captions, descriptions and the deployment's own words."""
    import random

    from transformers import AutoTokenizer

    if not (folder / "spiece.model").is_file():
        chance, known = random.Random(seed), [fillers("wan", media) for media in ("image", "video")]
        said = [text for _ in range(SENTENCES) for text in exchange("video", chance)]
        said += [text for filler in known for text in (*filler.styles, *filler.negatives)]
        tiny.write_tokenizer(folder, said, sizes.WAN_VOCABULARY)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _rounded(model: Any) -> Any:
    """What bf16 holds, in bf16."""
    import torch

    kept = frozenset(getattr(model, "_keep_in_fp32_modules", None) or ())
    model = model.cpu()
    for name, parameter in model.named_parameters():
        if not kept & set(name.split(".")):
            parameter.data = parameter.data.to(torch.bfloat16)
    return model
