"""The SDXL toy from nothing to one file with the original key names."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toys import sizes
from toys.fillers import fillers
from toys.loop import Loss, Plan, Report, fit
from toys.sizes import SDXL_SIDE
from toys.text import Texts
from toys.train_sdxl import GUIDANCE, Album, Reader, album, decoder_loss, denoiser_loss, reading_of, scenes
from toys.train_vae import vae_loss
from toys.train_words import heads, words_loss
from workers.engines.sdxl.load import tokenizers
from workers.tiny import sdxl as tiny

Trained = tuple[dict[str, Any], dict[str, Report]]

ALBUM = 20_000
ENCODERS = ("text_encoder", "text_encoder_2")


def train(folder: Path, device: str, plans: Mapping[str, Plan], seed: int = 0) -> Trained:
    """All networks, trained in stages whose checkpoints lie in `folder`, and the reports by stage."""
    networks, texts = _networks(seed)
    for network in networks.values():
        network.to(device)
    vae, reports = networks["vae"], dict[str, Report]()

    def stage(name: str, learners: Mapping[str, Any], make: Callable[[int], Loss]) -> None:
        reports[name] = fit(learners, make(plans[name].batch), plans[name], folder, seed)

    stage("sdxl_vae_parts", {"vae": vae}, lambda batch: vae_loss(vae, batch, SDXL_SIDE // 2, device))
    stage("sdxl_vae", {"vae": vae}, lambda batch: vae_loss(vae, batch, SDXL_SIDE, device))
    pictures = _album(vae, folder / "sdxl_album.pt", seed)
    rebuilt = {"decoder": vae.decoder, "after": vae.post_quant_conv}
    stage("sdxl_decoder", rebuilt, lambda batch: decoder_loss(vae, pictures, batch, device))
    encoders, reader = [networks[part] for part in ENCODERS], Reader(texts, fillers("sdxl", "image"))
    reading = heads(sizes.SDXL["unet"]["cross_attention_dim"], sizes.SDXL["text_encoder_2"]["projection_dim"]).to(
        device
    )
    learners = {part: networks[part] for part in ENCODERS} | {"reading": reading}
    stage("sdxl_words", learners, lambda batch: words_loss(reading_of(encoders, reader, batch), reading))
    unet = networks["unet"]
    stage("sdxl_denoiser", {"unet": unet}, lambda batch: denoiser_loss(unet, encoders, pictures, reader, batch))
    stage("sdxl_guided", {"unet": unet}, lambda batch: denoiser_loss(unet, encoders, pictures, reader, batch, GUIDANCE))
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


def _album(vae: Any, file: Path, seed: int) -> Album:
    """Drawn once: `file` keeps the latents, and the seed says what they show."""
    import torch

    if not file.is_file():
        pictures = album(vae, ALBUM, seed)
        torch.save({"latents": pictures.latents.cpu(), "scale": pictures.scale}, file)
    known = torch.load(file, weights_only=True)
    return Album(known["latents"], known["scale"], scenes(len(known["latents"]), seed))


def _with_all_tokens(state: dict[str, Any], texts: Texts) -> dict[str, Any]:
    return {
        name: texts.whole(tensor) if name.endswith("token_embedding.weight") else tensor
        for name, tensor in state.items()
    }
