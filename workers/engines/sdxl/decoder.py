"""SDXL's VAE decoder over the fast layers, in place of diffusers' own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.engines.sdxl import ops
from workers.engines.sdxl.blocks import ImageAttention, Resnet, Upsample

if TYPE_CHECKING:
    import torch


class Decoder:
    def __init__(self, module: Any) -> None:
        import torch

        module.to(memory_format=torch.channels_last)
        self._module = module
        self._mid = [Resnet(resnet) for resnet in module.mid_block.resnets]
        self._attention = ImageAttention(module.mid_block.attentions[0])
        self._up = [
            ([Resnet(resnet) for resnet in block.resnets], [Upsample(layer) for layer in block.upsamplers or ()])
            for block in module.up_blocks
        ]

    def forward(self, latent: torch.Tensor, latent_embeds: None = None) -> torch.Tensor:
        """Called by the VAE in place of the module's own `forward`."""
        import torch

        x = self._module.conv_in(latent.contiguous(memory_format=torch.channels_last))
        x = self._mid[1](self._attention(self._mid[0](x)))
        for resnets, upsamplers in self._up:
            for resnet in resnets:
                x = resnet(x)
            for upsample in upsamplers:
                x = upsample(x)
        image: torch.Tensor = self._module.conv_out(ops.group_norm([x], self._module.conv_norm_out))
        return image
