"""The video toy from nothing to its authors' layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toys import sizes
from toys.bearings import orient
from toys.fillers import fillers
from toys.loop import Loss, Plan, Report, fit
from toys.train_clips import Known, awake, decoder_loss, latents, scenes, still_loss
from toys.train_qwen import exchange
from toys.train_wan import Listener, Reel, flow_loss, reading_of
from toys.train_words import heads, words_loss
from workers.tiny import wan as tiny

Trained = tuple[dict[str, Any], dict[str, Report]]

CLIPS, STILLS = 1000, 12_000
CROP, PART = 32, 17
"""Pixels a side and frames of the parts of clips that the VAE learns from."""
SENTENCES = 3000
SOME_FRAMES = 4
"""Latent frames of a clip that the denoiser sees at a time, beside the first and the last, before it sees all."""


def train(folder: Path, device: str, plans: Mapping[str, Plan], seed: int = 0) -> Trained:
    """All networks, trained in stages whose checkpoints lie in `folder`, and the reports by stage."""
    networks = {name: network.to(device) for name, network in _networks(seed).items()}
    vae, reports = networks["vae"], dict[str, Report]()

    def stage(name: str, learners: Mapping[str, Any], make: Callable[[int], Loss]) -> None:
        reports[name] = fit(learners, make(plans[name].batch), plans[name], folder, seed)

    stage("wan_vae", {"vae": vae}, lambda batch: still_loss(vae, batch, CROP, device))
    reels = _reels(vae, folder / "wan_reels.pt", seed)
    listener = Listener(networks["text_encoder"], _tokenizer(folder / "tokenizer", seed), device)
    reading = heads(sizes.WAN["text_encoder"]["d_model"]).to(device)
    readers = {"encoder": listener.encoder, "reading": reading}
    stage("wan_words", readers, lambda batch: words_loss(reading_of(listener, reels, batch), reading))
    transformer = networks["transformer"]

    def flow(frames: int) -> Callable[[int], Loss]:
        return lambda batch: flow_loss(transformer, listener, reels, batch, frames)

    stage("wan_denoiser", {"transformer": transformer}, flow(SOME_FRAMES))
    stage("wan_denoiser_whole", {"transformer": transformer}, flow(sizes.WAN_FRAMES))
    rebuilt = {"decoder": vae.decoder, "before": vae.post_quant_conv}
    stage("wan_decoder", rebuilt, lambda batch: decoder_loss(vae, batch, PART, CROP, device))
    return networks | {"tokenizer": folder / "tokenizer"}, reports


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


def _reels(vae: Any, file: Path, seed: int) -> tuple[Reel, Reel]:
    """Drawn and encoded once; `file` keeps the latents. The VAE's configuration learns their mean and deviation."""
    import torch

    moving, still = scenes(CLIPS, seed, moving=True), scenes(STILLS, seed, moving=False)
    if not file.is_file():
        clips = latents(vae, moving, sizes.WAN_FRAMES, 8)
        torch.save({"clips": clips, "stills": latents(vae, still, 1, 64)}, file)
    known = torch.load(file, weights_only=True)
    axes = (0, 2, 3, 4)
    mean, deviation = known["clips"].mean(axes), known["clips"].std(axes)
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=deviation.tolist())

    def reel(name: str, scenes_of: Known, media: Any) -> Reel:
        normal = (known[name] - mean.view(1, -1, 1, 1, 1)) / deviation.view(1, -1, 1, 1, 1)
        return Reel(normal, scenes_of[: len(normal)], fillers("wan", media))

    return reel("clips", moving, "video"), reel("stills", still, "image")


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
