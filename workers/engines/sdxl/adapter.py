"""Pictures beside the text: an IP-Adapter, which waits in host memory and visits the card for its jobs.

While it is shown a picture, the denoiser computes as diffusers wrote it; at all other times nothing of it is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.card import host, weights
from workers.engines import fit
from workers.errors import Misconfigured

if TYPE_CHECKING:
    import torch

    from workers.job import Guide, Picture

ENCODER_WEIGHTS = "model.safetensors"
GROUPS = {"image_proj.": "image projection", "ip_adapter.": "attention to pictures"}
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP was trained on, red, green and blue in [0, 1]."""

STYLE_LAYERS: Mapping[str, Any] = {"up": {"block_0": [0.0, 1.0, 0.0]}}
"""Where SDXL's denoiser decides on colours, material and light, and not on what is to be seen."""


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """`weights` is one file, `encoder` a folder with a CLIP vision model in the layout of transformers. The hashes are
    SHA-256; None where any will do."""

    weights: Path
    encoder: Path
    weights_hash: str | None = None
    encoder_hash: str | None = None

    @property
    def present(self) -> bool:
        return self.weights.is_file() and (self.encoder / ENCODER_WEIGHTS).is_file()

    def check(self) -> str:
        """What both are known by together. Raises `Misconfigured` for files that are damaged or not those meant."""
        weights.check_safetensors(self.weights, GROUPS)
        found = []
        for path, wanted in ((self.weights, self.weights_hash), (self.encoder / ENCODER_WEIGHTS, self.encoder_hash)):
            found.append(weights.file_hash(path))
            if wanted not in (None, found[-1]):
                raise Misconfigured([f"{path} is not the file that config/models.toml names. Copy it again."])
        return f"{found[0]}+{found[1]}"


class Adapter:
    """The adapter of one pipeline. `name` says which weights it is made of."""

    def __init__(self, files: AdapterFiles, pipeline: Any) -> None:
        import torch
        from safetensors.torch import load_file
        from transformers import CLIPVisionModelWithProjection

        self.name = files.check()
        self._pipeline, unet = pipeline, pipeline.unet
        self._encoder = CLIPVisionModelWithProjection.from_pretrained(
            files.encoder, local_files_only=True, dtype=torch.float32
        )
        self._plain = dict(unet.attn_processors)
        unet._load_ip_adapter_weights([_grouped(load_file(files.weights))])
        self._projection, unet.encoder_hid_proj = unet.encoder_hid_proj.cpu(), None
        self._processors = dict(unet.attn_processors)
        self._layers = torch.nn.ModuleList(p.cpu() for p in self._processors.values() if hasattr(p, "to_k_ip"))
        self._attach(self._plain, None)

    def see(self, picture: Picture) -> torch.Tensor:
        """What is remembered of a picture: that of none, then its own, on the host in float32."""
        import torch

        side = self._encoder.config.image_size
        pixels = torch.from_numpy(fit.filling(picture, (side, side)).copy()).permute(0, 3, 1, 2) / 255
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        normal = (pixels - mean) / deviation
        with torch.no_grad():
            if self._reads_patches:
                pair = torch.cat((torch.zeros_like(normal), normal))
                seen: torch.Tensor = self._encoder(pair, output_hidden_states=True).hidden_states[-2][:, None]
                return seen
            own: torch.Tensor = self._encoder(normal).image_embeds
            return torch.cat((torch.zeros_like(own), own))[:, None]

    @contextmanager
    def shown(self, guide: Guide) -> Iterator[None]:
        """The denoiser attends to a picture: everywhere for a character, where style is decided for a style."""
        unet, fast = self._pipeline.unet, vars(self._pipeline.unet).pop("forward", None)
        with host.visiting((self._layers, self._projection), unet.device):
            try:
                self._attach(self._processors, None)
                self._pipeline.set_ip_adapter_scale(_scales(guide))
                self._attach(self._processors, self._projection)
                yield
            finally:
                self._attach(self._plain, None)
                if fast is not None:
                    unet.forward = fast

    @property
    def _reads_patches(self) -> bool:
        """Whether this adapter reads the encoder's last layer but one, as those do that are called "plus"."""
        from diffusers.models.embeddings import ImageProjection

        return not isinstance(self._projection.image_projection_layers[0], ImageProjection)

    def _attach(self, processors: Mapping[str, Any], projection: Any) -> None:
        """The projection comes last and goes first: it has processors of its own, which would be counted."""
        unet = self._pipeline.unet
        unet.encoder_hid_proj = None
        unet.set_attn_processor(dict(processors))
        unet.encoder_hid_proj = projection
        unet.config.encoder_hid_dim_type = None if projection is None else "ip_image_proj"


def _scales(guide: Guide) -> Any:
    if guide.use == "character":
        return guide.weight
    return {
        side: {block: [scale * guide.weight for scale in scales] for block, scales in blocks.items()}
        for side, blocks in STYLE_LAYERS.items()
    }


def _grouped(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    return {
        group.rstrip("."): {name.removeprefix(group): t for name, t in tensors.items() if name.startswith(group)}
        for group in GROUPS
    }
