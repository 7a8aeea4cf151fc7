"""Latents become pixels, and pixels latents, in 16 bits and one image at a time.

SDXL's VAE overflows float16: its inner values pass 65,504. The usual ways out are float32 for good and bfloat16.
Measured for one image of 1024x1024 on an H200, random weights of the true size grown to 3 * 10^5 inside:

    float32                0.115 s   5.2 GB beside the weights
    bfloat16               0.086 s   2.6 GB   50.6 dB against float32
    float16, scaled down   0.086 s   2.6 GB   61.0 dB against float32

Every value that can grow is read by a group norm only, and a group norm does not feel the scale of its input. So the
inner stream is scaled down by a power of two once, in the weights, and float16 holds it with all its bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

SHRINK = 2.0**-5
"""Inner values of this VAE reach some 10^5; 65,504 * 32 leaves a factor of twenty."""


def shrink(vae: Any, factor: float = SHRINK) -> None:
    """Scale the inner stream of encoder and decoder in place; what they compute stays the same.

    Linear layers on the stream keep their weights and scale their bias; layers that read a normed value and write to
    the stream scale both; the norms' epsilon scales with the variance.
    """
    import torch

    with torch.no_grad():
        for half in (vae.encoder, vae.decoder):
            _scale(half.conv_in, factor, factor)
            for module in half.modules():
                _shrink_module(module, factor)


def encode(vae: Any, image: torch.Tensor) -> torch.Tensor:
    """The latent (1, 4, height / 8, width / 8), in float32, of one picture (1, 3, height, width) in [-1, 1]: the most
    likely one, so that it is the same for every seed."""
    import torch

    with torch.no_grad():
        latent = _encoded(vae, image)
        if not latent.isfinite().all():
            vars(vae.decoder).pop("forward", None)
            latent = _encoded(vae.to(torch.bfloat16), image)
    return latent


def _encoded(vae: Any, image: torch.Tensor) -> torch.Tensor:
    latent: torch.Tensor = vae.encode(image.to(vae.device, vae.dtype)).latent_dist.mode()
    scaled: torch.Tensor = latent.float() * vae.config.scaling_factor
    return scaled


def decode(vae: Any, latent: torch.Tensor) -> NDArray[np.uint8]:
    """Pixels (1, height, width, 3) of one latent (1, 4, height / 8, width / 8).

    Should a foreign VAE overflow in spite of the scaling, it is kept in bfloat16 from then on.
    """
    import torch

    with torch.no_grad():
        image = _decoded(vae, latent)
        if not image.isfinite().all():
            vars(vae.decoder).pop("forward", None)  # the fast one holds float16 weights
            image = _decoded(vae.to(torch.bfloat16), latent)
        pixels = (image.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        array: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return array


def _decoded(vae: Any, latent: torch.Tensor) -> Any:
    return vae.decode((latent / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]


def _shrink_module(module: Any, factor: float) -> None:
    from diffusers.models.attention_processor import Attention
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.upsampling import Upsample2D
    from torch.nn import GroupNorm

    match module:
        case GroupNorm():
            module.eps *= factor**2
        case ResnetBlock2D():
            _scale(module.conv1, factor, factor)
            _scale(module.conv2, factor, factor)
            if module.conv_shortcut is not None:
                _scale(module.conv_shortcut, 1.0, factor)
        case Attention():
            _scale(module.to_out[0], factor, factor)
        case Upsample2D() | Downsample2D():
            _scale(module.conv, 1.0, factor)
        case _:
            pass


def _scale(layer: Any, weight: float, bias: float) -> None:
    layer.weight *= weight
    layer.bias *= bias
